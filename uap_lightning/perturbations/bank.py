"""The bank: a folder of crafted perturbations that keep the paper's bounds (section 5)."""

import hashlib
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning import __version__
from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.attacks.universal import Attack
from uap_lightning.data.crops import CropDataset
from uap_lightning.errors import UapError
from uap_lightning.networks import TargetNetwork
from uap_lightning.norms import LpNorm
from uap_lightning.perturbations.record import Record, load_perturbation, save_perturbation
from uap_lightning.storage import digest_of, locked, read_json, write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """What a perturbation must keep to enter the bank.

    Attributes:
        min_fooling_ratio: on the crafting images, 0-1; the paper's is 0.8.
        max_cosine: largest absolute cosine to any other of the bank; the paper's is 0.15.
        attempts: seeds tried for each perturbation before giving up.
    """

    min_fooling_ratio: float
    max_cosine: float
    attempts: int


@dataclass(frozen=True)
class Bank:
    """Crafted perturbations of one network, norm and size.

    Attributes:
        folder: where the files are.
        identity: digest of what made the bank; part of the folder's name.
        train: perturbations for training, K x 3 x H x W.
        test: perturbations for testing; never used in training.
        records: of both, training ones first.
    """

    folder: Path
    identity: str
    train: Tensor
    test: Tensor
    records: tuple[Record, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the perturbations, training ones first."""
        digest = hashlib.sha256(self.train.numpy().tobytes())
        digest.update(self.test.numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Recipe:
    """All that decides a bank's perturbations.

    Attributes:
        network: the network to fool.
        norm: the ball.
        attack: with its settings bound.
        settings: of the attack, for records.
        bounds: that every perturbation keeps.
        craft: crafting images, with the network's predictions.
        unseen: images to measure on that crafting has not seen; None without any.
        seed: of the bank.
    """

    network: TargetNetwork
    norm: LpNorm
    attack: Attack
    settings: dict[str, object]
    bounds: Bounds
    craft: CropDataset
    unseen: CropDataset | None
    seed: int

    def description(self) -> dict[str, object]:
        """The recipe as JSON; its digest is the bank's identity."""
        return {
            "network": self.network.name,
            "weights": self.network.digest,
            "p": _norm_name(self.norm),
            "eps": self.norm.eps,
            "size": self.craft.size,
            "attack": self.settings,
            "min_fooling_ratio": self.bounds.min_fooling_ratio,
            "max_cosine": self.bounds.max_cosine,
            "data": digest_of(self.craft.description()),
            "seed": self.seed,
        }


def fill_bank(root: Path, recipe: Recipe, train: int, test: int) -> Bank:
    """The bank of this recipe: read what is there and craft what is missing.

    Each perturbation is a file of its own, so an interrupted run goes on from the last one. A
    second process waits until the first has filled the bank, and then reads it.

    Args:
        root: folder that holds the banks.
        recipe: what makes the bank.
        train: perturbations for training.
        test: perturbations for testing.

    Raises:
        UapError: a bound cannot be met within the attempts, or a file cannot be read or written.
    """
    description = recipe.description()
    identity = digest_of(description)
    norm = _norm_name(recipe.norm)
    folder = root / f"{recipe.network.name}-l{norm}-{recipe.craft.size}-{identity[:12]}"
    names = [f"train-{i:04d}" for i in range(train)] + [f"test-{i:04d}" for i in range(test)]
    with locked(folder / ".lock", wait=True):
        write_json(folder / "bank.json", description)
        missing = sum(not (folder / f"{name}.safetensors").exists() for name in names)
        if missing:
            log.info("Crafting %d of %d perturbations into %s", missing, len(names), folder)
        rhos: list[Tensor] = []
        records: list[Record] = []
        for number, name in enumerate(names, start=1):
            path = folder / f"{name}.safetensors"
            if not path.exists():
                others = [load_perturbation(file)[0] for file in folder.glob("*.safetensors")]
                rho, record = _craft_within_bounds(recipe, name, others, description)
                save_perturbation(path, rho, record)
                log.info(
                    "%d/%d %s: fooling ratio %.3f on crafting images, %s on unseen ones, %.1f s",
                    number,
                    len(names),
                    name,
                    record.fooling_ratio,
                    "unknown"
                    if record.fooling_ratio_unseen is None
                    else f"{record.fooling_ratio_unseen:.3f}",
                    record.seconds,
                )
            rho, record = load_perturbation(path)
            rhos.append(rho)
            records.append(record)
    return Bank(
        folder, identity, torch.stack(rhos[:train]), torch.stack(rhos[train:]), tuple(records)
    )


def open_bank(folder: Path, network: str, norm: LpNorm, size: int) -> Bank:
    """Read a bank that the user names, and check that it fits the run.

    Args:
        folder: of the bank.
        network: name of the network whose perturbations are asked for.
        norm: the ball they must lie in.
        size: side in pixels.

    Raises:
        UapError: no bank there, or one of another network, norm or size.
    """
    description = read_json(folder / "bank.json", "a folder that uap_lightning.craft has filled")
    expected = {"network": network, "p": _norm_name(norm), "size": size}
    for key, value in expected.items():
        if description.get(key) != value:
            raise UapError(
                f"bank.path is {folder}, whose {key} is {description.get(key)}: expected {value}; "
                "give a bank that was crafted for this network, norm and crop, or leave "
                "bank.path=null to have one crafted."
            )
    eps = float(str(description["eps"]))
    if not math.isclose(eps, norm.eps, rel_tol=1e-6):
        raise UapError(
            f"bank.path is {folder}, whose eps is {eps}: expected {norm.eps}; set norm.eps, or "
            "give a bank of this radius."
        )
    train = sorted(folder.glob("train-*.safetensors"))
    test = sorted(folder.glob("test-*.safetensors"))
    if not train or not test:
        raise UapError(
            f"bank.path is {folder}, which has {len(train)} training and {len(test)} test "
            "perturbations: expected at least one of each; run uap_lightning.craft to fill it."
        )
    pairs = [load_perturbation(path) for path in [*train, *test]]
    rhos = torch.stack([rho for rho, _ in pairs])
    records = tuple(record for _, record in pairs)
    return Bank(folder, digest_of(description), rhos[: len(train)], rhos[len(train) :], records)


def largest_cosine(rho: Tensor, others: list[Tensor]) -> float:
    """Largest absolute cosine between ``rho`` and ``others``; 0 without any."""
    if not others:
        return 0.0
    stacked = torch.stack([other.flatten() for other in others])
    return float(torch.cosine_similarity(stacked, rho.flatten()[None], dim=1).abs().max())


def _craft_within_bounds(
    recipe: Recipe, name: str, others: list[Tensor], description: dict[str, object]
) -> tuple[Tensor, Record]:
    bounds = recipe.bounds
    reasons = []
    for attempt in range(bounds.attempts):
        seed = int(digest_of([recipe.seed, name, attempt])[:8], 16)
        started = time.perf_counter()
        crafted = recipe.attack(
            recipe.network, recipe.craft, recipe.craft.prediction, recipe.norm, seed
        )
        seconds = time.perf_counter() - started
        rho = crafted.rho
        ratio = fooling_ratio(recipe.network, recipe.craft, recipe.craft.prediction, rho)
        cosine = largest_cosine(rho, others)
        if ratio < bounds.min_fooling_ratio:
            reasons.append(f"fooling ratio {ratio:.3f}")
        elif cosine > bounds.max_cosine:
            reasons.append(f"cosine {cosine:.3f}")
        else:
            unseen = recipe.unseen
            record = Record(
                network=recipe.network.name,
                weights=recipe.network.digest,
                p=_norm_name(recipe.norm),
                eps=recipe.norm.eps,
                size=recipe.craft.size,
                attack=recipe.settings,
                seed=seed,
                attempt=attempt,
                data=str(description["data"]),
                passes=crafted.passes,
                seconds=seconds,
                fooling_ratio=ratio,
                fooling_ratio_unseen=None
                if unseen is None
                else fooling_ratio(recipe.network, unseen, unseen.prediction, rho),
                cosine=cosine,
                l2=float(rho.norm()),
                linf=float(rho.abs().max()),
                version=__version__,
            )
            return rho, record
        log.info("%s, attempt %d: %s misses its bound", name, attempt + 1, reasons[-1])
    raise UapError(
        f"no perturbation kept the bounds (bank.min_fooling_ratio {bounds.min_fooling_ratio}, "
        f"bank.max_cosine {bounds.max_cosine}) in {bounds.attempts} attempts "
        f"({'; '.join(reasons)}): lower the bound that was missed, raise norm.eps, or let the "
        "attack run longer."
    )


def _norm_name(norm: LpNorm) -> str:
    return "2" if norm.p == 2 else "inf"
