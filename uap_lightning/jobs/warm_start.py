"""A training that begins where another one ended: ``rectifier.training.start=DEFENSE``."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Start:
    """A defence whose rectifier a training begins with.

    Attributes:
        defense: the whole of it; its detector is not taken up.
        trained_on: what no test of a defence that comes of it may use.
    """

    defense: Defense
    trained_on: TrainedOn


def read_start(cfg: TrainConfig, rectifier: nn.Module, data: Collection) -> Start | None:
    """Give the rectifier the weights that its training begins with, where some are named.

    It need not have been trained on images of the same size, nor for the same network or norm.

    Args:
        cfg: of the run.
        rectifier: gets the weights.
        data: whose test photographs the defence may not have been trained on.

    Raises:
        UapError: the folder is not whole, its rectifier is another one, or it was trained on test
            photographs.
    """
    training = cfg.rectifier.training
    if training is None or training.start is None:
        return None
    folder = Path(training.start)
    try:
        defense = load_defense(folder)
        check_split(defense, data.tested_on)
    except UapError as error:
        raise UapError(f"rectifier.training.start: {error}") from error
    theirs = dict(read_as(folder / RECORD, Record, "a defence folder").settings.rectifier)
    ours = {"name": RECTIFIERS.name_of(type(rectifier)), **arguments_of(cfg.rectifier.model)}
    if theirs != ours:
        raise UapError(
            f"rectifier.training.start names {folder}, whose rectifier "
            f"({defense.condition['rectifier']}: {theirs}) is not built as this one "
            f"({cfg.rectifier.name}: {ours}): give the rectifier and the rectifier.model that it "
            "was trained with."
        )
    if defense.size != data.crop:
        log.warning(
            "%s was trained at %d pixels: a perturbation that it knows is another one at %d, so "
            "see to it yourself that none of them is tested on",
            *(folder, defense.size, data.crop),
        )
    rectifier.load_state_dict(defense.rectifier.state_dict())
    return Start(defense, read_as(folder / TRAINED_ON, TrainedOn, "what it was trained on"))


def check_tested(start: Start, bank: Bank) -> None:
    """Refuse to test on a perturbation that the start was trained on.

    Raises:
        UapError: the bank's test part holds one.
    """
    try:
        check_perturbations(start.defense, bank)
    except UapError as error:
        raise UapError(f"rectifier.training.start: {error}") from error


def check_place(composed: DictConfig) -> None:
    """Refuse a start in the folder of the run itself, which may be cleared before it is read.

    Raises:
        UapError: it is.
    """
    start = OmegaConf.select(composed, "rectifier.training.start")
    folder = composed.paths.output_dir
    if start is None or folder is None:
        return
    if Path(start).resolve().is_relative_to(Path(folder).resolve()):
        raise UapError(
            f"rectifier.training.start is {start}, in the folder of this run ({folder}): give the "
            "run a folder of its own with name=NAME."
        )


def check_same_start(cfg: TrainConfig, folder: Path, digests: Mapping[str, object]) -> None:
    """Refuse to show a finished run's numbers for a start that has been replaced since.

    Args:
        cfg: of the run.
        folder: of the run.
        digests: that its ``results.json`` holds.

    Raises:
        UapError: the folder holds another defence than the run began with, or none.
    """
    training = cfg.rectifier.training
    if training is None or training.start is None:
        return
    if digests.get("start") != digest_of_file(Path(training.start) / RECORD):
        raise UapError(
            f"{folder} holds a training that began with another defence than {training.start} "
            "holds now: run it again with overwrite=true, or give this run its own folder with "
            "name=NAME."
        )
