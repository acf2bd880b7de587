"""What a training perturbs with: P*, and the perturbations that join it."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.data import Collection
from uap_lightning.jobs.groups import TrainingConfig
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.perturbations.bank import (
    Bank,
    check_unseen,
    identities,
    perturbations_of,
    read_bank,
    training_banks,
)
from uap_lightning.perturbations.procedural import procedural
from uap_lightning.perturbations.sampling import PerturbationSampler
from uap_lightning.perturbations.synthetic import extend

log = logging.getLogger(__name__)


def read_further(cfg: TrainConfig, data: Collection) -> tuple[Tensor, set[str]]:
    """The training perturbations of the banks of ``bank.further``: K x 3 x H x W.

    They may be of other networks, attacks, norms and radii than the run's.

    Returns:
        the perturbations, and the identities of the photographs that they were crafted on.

    Raises:
        UapError: a folder is no bank, has none for training, or they are of another size or were
            crafted on test photographs.
    """
    found = [torch.empty(0, 3, data.crop, data.crop)]
    photographs: set[str] = set()
    for folder in banks_of(cfg.bank.further):
        names = [name for name in perturbations_of(folder) if name.startswith("train")]
        bank = read_bank(folder, names)
        side = bank.train.shape[-1]
        if side != data.crop:
            raise UapError(
                f"bank.further names {folder}, whose perturbations are {side} x {side}: expected "
                f"data.crop ({data.crop}); craft them for this size, or import a part of them "
                f"with --size {data.crop}."
            )
        check_unseen(bank, data.tested_on, "bank.further")
        found.append(bank.train)
        photographs.update(bank.photographs)
        log.info("%d perturbations of %s join", len(bank.train), folder)
    return torch.cat(found), photographs


def apart_from(bank: Bank, further: Tensor) -> Tensor:
    """Those of ``further`` that are not among the bank's training ones, each once.

    Raises:
        UapError: one of them is a test perturbation of the bank.
    """
    named = identities(further)
    shared = set(named) & set(identities(bank.test))
    if shared:
        raise UapError(
            f"bank.further has {len(shared)} of the {len(bank.test)} test perturbations of the "
            "bank for training: expected none; import or craft others to test on, or leave the "
            "bank that they are in out of bank.further."
        )
    known, kept = set(identities(bank.train)), []
    for number, name in enumerate(named):
        if name not in known:
            known.add(name)
            kept.append(number)
    return further[kept]


def banks_of(further: list[str]) -> list[Path]:
    """The banks with training perturbations that the folders of ``bank.further`` are or hold.

    Raises:
        UapError: a folder is no such bank and holds none.
    """
    found: list[Path] = []
    for folder in map(Path, further):
        banks = training_banks(folder)
        if not banks:
            raise UapError(
                f"bank.further names {folder}, which has no perturbations for training: give a "
                "bank, a folder with bank.json and train-*.safetensors, or a folder of banks."
            )
        found += [bank for bank in banks if bank not in found]
    return found


def sampler_of(cfg: TrainConfig, bank: Bank, further: Tensor) -> PerturbationSampler:
    """Perturbs as a training does, by all that it is given.

    These are the bank's training perturbations, extended by synthetic ones (P* of section 4.2),
    ``further`` ones and procedural ones; ``bank.procedural_share`` of the draws are of the last.
    """
    ball, training = cfg.ball(), cfg.rectifier.training
    crafted = torch.cat([extend(bank.train, ball, cfg.bank.extended, cfg.seed), further])
    weights = None
    if cfg.bank.procedural:
        made = procedural(cfg.bank.procedural, crafted.shape[-1], cfg.seed)
        share = cfg.bank.procedural_share
        weights = torch.cat([_even(crafted, 1 - share), _even(made, share)])
        crafted = torch.cat([crafted, made])
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
    return torch.full((len(perturbations),), share / max(1, len(perturbations)))
