"""A training that begins where another one ended: ``rectifier.training.start=DEFENSE``."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_as
from uap_lightning.data import Collection
from uap_lightning.guard.defense_folder import TRAINED_ON, Defense, TrainedOn, load_defense
from uap_lightning.jobs.evaluate import check_split
from uap_lightning.jobs.schema import TrainConfig


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
    shapes = [
        {key: tensor.shape for key, tensor in module.state_dict().items()}
        for module in (rectifier, defense.rectifier)
    ]
    if type(rectifier) is not type(defense.rectifier) or shapes[0] != shapes[1]:
        raise UapError(
            f"rectifier.training.start names {folder}, whose rectifier "
            f"({defense.condition['rectifier']}) is not built as this one ({cfg.rectifier.name}): "
            "give the rectifier and the rectifier.model that it was trained with."
        )
    rectifier.load_state_dict(defense.rectifier.state_dict())
    return Start(defense, read_as(folder / TRAINED_ON, TrainedOn, "what it was trained on"))
