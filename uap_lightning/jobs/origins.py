"""Defences that a training builds on: the one it begins with, and the one that it learns from."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, read_as
from uap_lightning.data import Collection
from uap_lightning.guard.defense_folder import (
    RECORD,
    TRAINED_ON,
    Defense,
    Record,
    TrainedOn,
    load_defense,
)
from uap_lightning.jobs.config import arguments_of
from uap_lightning.jobs.evaluate import check_perturbations, check_split
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.perturbations.bank import Bank
from uap_lightning.rectifiers import RECTIFIERS

log = logging.getLogger(__name__)


# Their keys under ``rectifier.training``, and what one does with each.
_KEYS = {"start": "began with", "teacher": "was taught by"}


@dataclass(frozen=True)
class Origin:
    """A defence that a training builds on.

    Attributes:
        key: under ``rectifier.training`` that names it: ``start`` or ``teacher``.
        defense: the whole of it; its detector is not taken up.
        trained_on: what no test of a defence that comes of it may use.
    """

    key: str
    defense: Defense
    trained_on: TrainedOn


def read_origins(cfg: TrainConfig, rectifier: nn.Module, data: Collection) -> list[Origin]:
    """What a training builds on; the rectifier gets the weights of ``rectifier.training.start``.

    None need have been trained on images of the same size, nor for the same network or norm.

    Args:
        cfg: of the run.
        rectifier: that is to be trained.
        data: whose test photographs no such defence may have been trained on.

    Raises:
        UapError: a folder is not whole, was trained on test photographs, or holds a rectifier
            that does not fit: to begin with, it has to be built alike; as a teacher, it has to
            take images of this size.
    """
    origins = [_read(key, folder, data) for key, folder in _folders(cfg).items()]
    for origin in origins:
        if origin.key == "start":
            _begin(cfg, rectifier, origin.defense)
        else:
            _check_teacher(cfg, origin.defense, data.crop)
    return origins


def teacher_of(origins: Sequence[Origin]) -> nn.Module | None:
    """The rectifier that the training learns from, if any, frozen."""
    found = [origin.defense.rectifier for origin in origins if origin.key == "teacher"]
    return found[0].eval().requires_grad_(False) if found else None


def check_tested(origins: Sequence[Origin], bank: Bank) -> None:
    """Refuse to test on a perturbation that an origin was trained on.

    Raises:
        UapError: the bank's test part holds one.
    """
    for origin in origins:
        try:
            check_perturbations(origin.defense, bank)
        except UapError as error:
            raise UapError(f"rectifier.training.{origin.key}: {error}") from error


def check_place(composed: DictConfig) -> None:
    """Refuse an origin in the folder of the run itself, which may be cleared before it is read.

    Raises:
        UapError: it is.
    """
    folder = composed.paths.output_dir
    for key in _KEYS:
        origin = OmegaConf.select(composed, f"rectifier.training.{key}")
        if origin is None or folder is None:
            continue
        if Path(origin).resolve().is_relative_to(Path(folder).resolve()):
            raise UapError(
                f"rectifier.training.{key} is {origin}, in the folder of this run ({folder}): give "
                "the run a folder of its own with name=NAME."
            )


def check_same_origins(cfg: TrainConfig, folder: Path, digests: Mapping[str, object]) -> None:
    """Refuse to show a finished run's numbers for an origin that has been replaced since.

    Args:
        cfg: of the run.
        folder: of the run.
        digests: that its ``results.json`` holds.

    Raises:
        UapError: an origin's folder holds another defence than the run was given, or none.
    """
    for key, origin in _folders(cfg).items():
        if digests.get(key) != digest_of_file(origin / RECORD):
            raise UapError(
                f"{folder} holds a training that {_KEYS[key]} another defence than {origin} holds "
                "now: run it again with overwrite=true, or give this run its own folder with "
                "name=NAME."
            )


def _folders(cfg: TrainConfig) -> dict[str, Path]:
    """The folder of each origin that the config names, by its key."""
    training = cfg.rectifier.training
    if training is None:
        return {}
    named = {key: getattr(training, key) for key in _KEYS}
    return {key: Path(folder) for key, folder in named.items() if folder is not None}


def _read(key: str, folder: Path, data: Collection) -> Origin:
    """An origin, which was not trained on the test photographs."""
    try:
        defense = load_defense(folder)
        check_split(defense, data.tested_on)
    except UapError as error:
        raise UapError(f"rectifier.training.{key}: {error}") from error
    if defense.size != data.crop:
        log.warning(
            "%s was trained at %d pixels: a perturbation that it knows is another one at %d, so "
            "see to it yourself that none of them is tested on",
            *(folder, defense.size, data.crop),
        )
    return Origin(key, defense, read_as(folder / TRAINED_ON, TrainedOn, "what it was trained on"))


def _begin(cfg: TrainConfig, rectifier: nn.Module, defense: Defense) -> None:
    """Give the rectifier the weights of one that is built alike."""
    folder = _folders(cfg)["start"]
    theirs = dict(read_as(folder / RECORD, Record, "a defence folder").settings.rectifier)
    ours = {"name": RECTIFIERS.name_of(type(rectifier)), **arguments_of(cfg.rectifier.model)}
    if theirs != ours:
        raise UapError(
            f"rectifier.training.start names {folder}, whose rectifier "
            f"({defense.condition['rectifier']}: {theirs}) is not built as this one "
            f"({cfg.rectifier.name}: {ours}): give the rectifier and the rectifier.model that it "
            "was trained with."
        )
    rectifier.load_state_dict(defense.rectifier.state_dict())


def _check_teacher(cfg: TrainConfig, defense: Defense, size: int) -> None:
    """Refuse a teacher that does not take images of this size."""
    images = torch.full((1, 3, size, size), 127.0)
    try:
        with torch.no_grad():
            taught = defense.rectifier(images)
        if taught.shape != images.shape or not taught.isfinite().all():
            raise ValueError(f"it returns {tuple(taught.shape)}, or values that are not finite")
    except (RuntimeError, ValueError, TypeError) as error:
        raise UapError(
            f"rectifier.training.teacher names {_folders(cfg)['teacher']}, whose rectifier does "
            f"not take images of side {size} ({' '.join(str(error).split())}): expected one that "
            "does; give a defence that was trained at this size."
        ) from error
