"""Fill a bank: craft what is missing, by one process or by several at once."""

import logging
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.attacks.recipe import Recipe
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, locked, read_as, read_json, write_json
from uap_lightning.core.version import __version__
from uap_lightning.perturbations.bank import (
    Bank,
    largest_cosine,
    norm_name,
    read_bank,
    read_description,
    read_member,
    shown,
)
from uap_lightning.perturbations.record import Record, ratio_text, save_perturbation

log = logging.getLogger(__name__)

CANDIDATES = ".candidates"


@dataclass(frozen=True)
class Rejections:
    """Why earlier attempts at a perturbation were rejected, in their order."""

    reasons: list[str]


def fill_bank(root: Path, recipe: Recipe, train: int, test: int) -> Bank:
    """The bank of this recipe: read what is there and craft what is missing.

    Each perturbation is a file of its own, so an interrupted run goes on from the last one.
    Several processes share the work: each takes a perturbation that no other is at, under a lock
    of its own, and leaves it in ``.candidates``. Candidates enter the bank under the bank's lock
    and in the order of their names (training ones first), each checked against all that is in
    the bank by then. So every one meets the same others however many processes there are, and
    the bank is the one that a single process would have made for as many perturbations, on the
    same kind of device with as many threads.

    Args:
        root: folder that holds the banks.
        recipe: what makes the bank.
        train: perturbations for training.
        test: perturbations for testing.

    Raises:
        UapError: the network predicts one class for all images, a bound cannot be met within the
            attempts, the folder holds a bank of another recipe, or a file cannot be read or
            written.
    """
    description = recipe.description()
    identity = digest_of(description)
    norm = norm_name(recipe.norm)
    folder = root / f"{recipe.network.name}-l{norm}-{recipe.craft.size}-{identity[:12]}"
    names = [f"train-{i:04d}" for i in range(train)] + [f"test-{i:04d}" for i in range(test)]
    take_folder(folder, description)
    missing = _admit(folder, names, recipe)
    if missing:
        _check_predictions(recipe)
        log.info("Crafting %d of %d perturbations into %s", len(missing), len(names), folder)
    while missing:
        if not _craft_one(folder, missing, recipe):
            # Others are at all of them: wait for the first, which the rest wait for too.
            with locked(_lock(folder, missing[0]), wait=True):
                pass
        missing = _admit(folder, names, recipe)
    return read_bank(folder, names)


def take_folder(folder: Path, description: dict[str, object]) -> None:
    """Make ``folder`` the bank of this description.

    Raises:
        UapError: it holds a bank with another one; the first difference is named.
    """
    path = folder / "bank.json"
    with locked(folder / ".lock", wait=True):
        if not path.exists():
            write_json(path, description)
        found = read_json(path, "the description of a bank")
        for key in sorted({*found, *description}):
            if digest_of(found.get(key)) != digest_of(description.get(key)):
                raise UapError(
                    f"{folder} is a bank with {key} {shown(found.get(key))}: expected "
                    f"{shown(description.get(key))}; two settings cannot share a bank, so "
                    "give this one another folder (paths.bank_dir)."
                )


def _craft_one(folder: Path, missing: list[str], recipe: Recipe) -> bool:
    """Craft a candidate for the first name that no process is at; False when there is none."""
    for name in missing:
        candidate = folder / CANDIDATES / f"{name}.safetensors"
        with locked(_lock(folder, name), wait=False) as held:
            if held and not candidate.exists() and not (folder / candidate.name).exists():
                rho, record = _craft_within_bounds(folder, recipe, name)
                save_perturbation(candidate, rho, record)
                log.info(
                    "%s: fooling ratio %s on crafting images, %s on unseen ones, %.1f s",
                    name,
                    ratio_text(record.fooling_ratio),
                    ratio_text(record.fooling_ratio_unseen),
                    record.seconds,
                )
                return True
    return False


def _admit(folder: Path, names: list[str], recipe: Recipe) -> list[str]:
    """Let candidates into the bank in the order of ``names`` and return what is still missing."""
    with locked(folder / ".lock", wait=True):
        description = read_description(folder)
        for name in names:
            path = folder / f"{name}.safetensors"
            candidate = folder / CANDIDATES / path.name
            if path.exists():
                continue
            if not candidate.exists():
                break
            rho, record = read_member(candidate, description)
            # A setting of None is left to the seed, and the record has what was drawn.
            stated = {key: value for key, value in recipe.settings.items() if value is not None}
            of_seed = record.seed == _seed(recipe, name, record.attempt)
            if not (of_seed and stated.items() <= record.attack.items()):
                raise UapError(
                    f"{candidate} was crafted by another recipe (seed {record.seed}, attack "
                    f"{shown(record.attack)}): expected {shown(stated)}; remove it to "
                    "have it crafted anew."
                )
            others = [read_member(file, description)[0] for file in folder.glob("*.safetensors")]
            cosine = largest_cosine(rho, others)
            if not cosine <= recipe.bounds.max_cosine:
                _reject(folder, name, record.attempt, f"cosine {cosine:.3f}")
                candidate.unlink()
                break
            save_perturbation(path, rho, replace(record, cosine=cosine))
            candidate.unlink()
            _reasons(folder, name).unlink(missing_ok=True)
        return [name for name in names if not (folder / f"{name}.safetensors").exists()]


def _craft_within_bounds(folder: Path, recipe: Recipe, name: str) -> tuple[Tensor, Record]:
    """A candidate that keeps the bound on fooling, by the first seed that was not rejected."""
    bounds = recipe.bounds
    while (attempt := len(_rejections(folder, name))) < bounds.attempts:
        seed = _seed(recipe, name, attempt)
        started = time.perf_counter()
        crafted = recipe.attack(
            recipe.network, recipe.craft, recipe.craft.prediction, recipe.norm, seed
        )
        seconds = time.perf_counter() - started
        rho = crafted.rho
        _check_crafted(rho, recipe)
        ratio = fooling_ratio(recipe.network, recipe.craft, recipe.craft.prediction, rho)
        if not ratio >= bounds.min_fooling_ratio:
            _reject(folder, name, attempt, f"fooling ratio {ratio:.3f}")
            continue
        unseen = recipe.unseen
        return rho, Record(
            network=recipe.network.name,
            weights=recipe.network.digest,
            p=norm_name(recipe.norm),
            eps=recipe.norm.eps,
            size=recipe.craft.size,
            attack={**recipe.settings, **crafted.drawn},
            seed=seed,
            attempt=attempt,
            data=digest_of(recipe.craft.description()),
            passes=crafted.passes,
            seconds=seconds,
            fooling_ratio=ratio,
            fooling_ratio_unseen=None
            if unseen is None
            else fooling_ratio(recipe.network, unseen, unseen.prediction, rho),
            cosine=0.0,  # set when it enters the bank
            l2=float(rho.norm()),
            linf=float(rho.abs().max()),
            version=__version__,
        )
    raise UapError(
        f"no perturbation kept the bounds (bank.min_fooling_ratio {bounds.min_fooling_ratio}, "
        f"bank.max_cosine {bounds.max_cosine}) in {bounds.attempts} attempts "
        f"({'; '.join(_rejections(folder, name))}): lower the bound that was missed, raise "
        "norm.eps, or let the attack run longer."
    )


def _seed(recipe: Recipe, name: str, attempt: int) -> int:
    return int(digest_of([recipe.seed, name, attempt])[:8], 16)


def _rejections(folder: Path, name: str) -> list[str]:
    """Why earlier attempts at this perturbation were rejected."""
    path = _reasons(folder, name)
    if not path.exists():
        return []
    return read_as(path, Rejections, "why attempts were rejected; remove it").reasons


def _reject(folder: Path, name: str, attempt: int, reason: str) -> None:
    """Note why an attempt was rejected; once, also where a process was killed just after."""
    reasons = [*_rejections(folder, name)[:attempt], reason]
    write_json(_reasons(folder, name), {"reasons": reasons})
    log.info("%s, attempt %d: %s misses its bound", name, len(reasons), reason)


def _reasons(folder: Path, name: str) -> Path:
    return folder / CANDIDATES / f"{name}.json"


def _lock(folder: Path, name: str) -> Path:
    return folder / CANDIDATES / f"{name}.lock"


def _check_crafted(rho: Tensor, recipe: Recipe) -> None:
    """Refuse what is no perturbation of this ball, whichever attack it comes from.

    Raises:
        UapError: its type, shape or norm is wrong, or a value is not finite.
    """
    shape = (3, recipe.craft.size, recipe.craft.size)
    whole = rho.dtype == torch.float32 and tuple(rho.shape) == shape
    size = float(recipe.norm.size(rho)) if whole else math.nan
    if not size <= recipe.norm.eps * (1 + 1e-5):  # also false for NaN
        raise UapError(
            f"attack={recipe.settings.get('name')} returned {rho.dtype} of shape "
            f"{tuple(rho.shape)} and norm {size:.6g}: expected float32 of shape {shape}, finite "
            f"and within {recipe.norm.eps:.6g} in pixel units; correct the attack."
        )


def _check_predictions(recipe: Recipe) -> None:
    """Refuse a network that says the same of all crafting images.

    Raises:
        UapError: it does.
    """
    predictions = recipe.craft.prediction
    if len(predictions) > 1 and bool((predictions == predictions[0]).all()):
        raise UapError(
            f"the network {recipe.network.name} predicts class {int(predictions[0])} for all "
            f"{len(predictions)} crafting images: expected different classes, or a perturbation "
            "that fools it tells nothing; check network.weights and the network's normalisation, "
            "or craft on more kinds of image."
        )
