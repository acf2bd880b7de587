"""What a training perturbs with: P*, and the perturbations that join it."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.data import Collection
from uap_lightning.guard.defense_folder import TrainedOn
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.jobs.training_groups import TrainingConfig
from uap_lightning.perturbations.bank import (
    Bank,
    check_unseen,
    identities,
    perturbations_of,
    read_bank,
    training_banks,
)
from uap_lightning.perturbations.procedural import procedural
from uap_lightning.perturbations.resizing import mirrored, rescaled
from uap_lightning.perturbations.sampling import PerturbationSampler
from uap_lightning.perturbations.synthetic import extend

log = logging.getLogger(__name__)


def read_further(cfg: TrainConfig, data: Collection) -> tuple[list[Tensor], TrainedOn]:
    """The training perturbations that ``bank.further`` names.

    They may be of other networks, attacks, norms and radii than the run's, and with
    ``bank.mirrored`` smaller.

    Returns:
        those of each folder that is named, K x 3 x H x W, a bank that several name with the first
        of them; and the identities of the photographs that they were crafted on, and of the
        perturbations that are smaller than the images, as they were.

    Raises:
        UapError: a folder is no bank, has none for training, or they are of another size or were
            crafted on test photographs.
    """
    groups = []
    photographs: set[str] = set()
    smaller: list[str] = []
    for folders in banks_of(cfg.bank.further):
        group = []
        for folder in folders:
            names = [name for name in perturbations_of(folder) if name.startswith("train")]
            bank = read_bank(folder, names)
            side = bank.train.shape[-1]
            if side > data.crop or (side < data.crop and not cfg.bank.mirrored):
                way = (
                    f"import a part of them with --size {data.crop}"
                    if side > data.crop
                    else "continue them by their mirror images with bank.mirrored=true"
                )
                raise UapError(
                    f"bank.further names {folder}, whose perturbations are {side} x {side}: "
                    f"expected data.crop ({data.crop}); craft them for this size, or {way}."
                )
            if side < data.crop:
                smaller += identities(bank.train)
                log.warning(
                    "%s has perturbations of %d pixels: each is known again at %d, but not where "
                    "it is a part of a larger one, so see to it yourself that no such is tested on",
                    *(folder, side, side),
                )
            check_unseen(bank, data.tested_on, "bank.further")
            group.append(mirrored(bank.train, data.crop))
            photographs.update(bank.photographs)
            log.info("%d perturbations of %s join", len(bank.train), folder)
        groups.append(torch.cat(group))
    return groups, TrainedOn(sorted(photographs), smaller)


def apart_from(bank: Bank, further: list[Tensor], folders: list[str]) -> list[Tensor]:
    """Those of ``further`` that are not among the bank's training ones, each once.

    Args:
        bank: the run's own.
        further: of :func:`read_further`.
        folders: what each of them was read from.

    Raises:
        UapError: one of them is a test perturbation of the bank.
    """
    tested = set(identities(bank.test))
    known = set(identities(bank.train))
    shared: set[str] = set()
    groups = []
    for group, folder in zip(further, folders, strict=True):
        kept = []
        for number, name in enumerate(identities(group)):
            if name in tested:
                shared.add(name)
            if name not in known:
                known.add(name)
                kept.append(number)
        if kept:
            groups.append(group[kept])
        else:
            log.warning(
                "bank.further names %s, whose perturbations are all of the bank or of folders "
                "named before it: leave it out, it is not drawn from",
                folder,
            )
    if shared:
        raise UapError(
            f"bank.further has {len(shared)} of the {len(bank.test)} test perturbations of the "
            "bank for training: expected none; import or craft others to test on, or leave the "
            "bank that they are in out of bank.further."
        )
    return groups


def banks_of(further: list[str]) -> list[list[Path]]:
    """The banks with training perturbations that each folder of ``bank.further`` is or holds.

    A bank that several folders hold stands with the first of them alone.

    Raises:
        UapError: a folder is no such bank and holds none, or none that is not named before.
    """
    found: list[list[Path]] = []
    for folder in map(Path, further):
        banks = training_banks(folder)
        if not banks:
            raise UapError(
                f"bank.further names {folder}, which has no perturbations for training: give a "
                "bank, a folder with bank.json and train-*.safetensors, or a folder of banks."
            )
        new = [bank for bank in banks if not any(bank in others for others in found)]
        if not new:
            raise UapError(
                f"bank.further names {folder}, whose banks are all in folders named before it: "
                "name it first, or once."
            )
        found.append(new)
    return found


def sampler_of(cfg: TrainConfig, bank: Bank, further: list[Tensor]) -> PerturbationSampler:
    """Perturbs as a training does, by all that it is given.

    These are the bank's training perturbations, extended by synthetic ones (P* of section 4.2),
    and ``further`` ones, each group of them as often as the bank's, however many it holds, with
    ``bank.rescaled`` copies of each at other scales; and procedural ones, of which
    ``bank.procedural_share`` of the draws are.
    """
    ball, training = cfg.ball(), cfg.rectifier.training
    groups = [extend(bank.train, ball, cfg.bank.extended, cfg.seed), *further]
    if cfg.bank.rescaled:
        groups = [
            torch.cat([group, rescaled(group, cfg.bank.rescaled, cfg.seed + number)])
            for number, group in enumerate(groups)
        ]
    shares = [1 / len(groups)] * len(groups)
    if cfg.bank.procedural:
        groups.append(procedural(cfg.bank.procedural, bank.train.shape[-1], cfg.seed))
        made = cfg.bank.procedural_share
        shares = [*(share * (1 - made) for share in shares), made]
    weights = None
    if len(groups) > 1:
        weights = torch.cat([_even(*pair) for pair in zip(groups, shares, strict=True)])
    crafted = torch.cat(groups)
    if training is None:  # its detector alone is fitted, which chooses the share itself
        return PerturbationSampler(crafted, 0.5, False, ball, cfg.seed, weights=weights)
    return PerturbationSampler(
        crafted,
        training.perturbed_share,
        training.vary,
        ball,
        cfg.seed,
        strengths_of(training),
        weights,
    )


def strengths_of(training: TrainingConfig) -> tuple[float, float] | None:
    """The smallest and the largest factor of a perturbation's strength, if they are given."""
    return None if training.strengths is None else (training.strengths[0], training.strengths[1])


def _even(perturbations: Tensor, share: float) -> Tensor:
    """Equal weights that add up to ``share``."""
    return torch.full((len(perturbations),), share / len(perturbations))
