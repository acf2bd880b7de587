"""What a training is built of: rectifier, detector, and the LightningModule around both."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from uap_lightning.core.errors import UapError
from uap_lightning.jobs.config import build
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.jobs.stages import Condition, load_network
from uap_lightning.networks import TargetNetwork
from uap_lightning.training.features import early_layers
from uap_lightning.training.module import RectifierModule


def build_parts(cfg: TrainConfig, size: int) -> tuple[nn.Module, nn.Module]:
    """Rectifier and detector of the config, tried on a grey image before any work.

    Raises:
        UapError: one of them does not take images of side ``size``.
    """
    rectifier, detector = (build(p.model, nn.Module) for p in (cfg.rectifier, cfg.detector))
    modes = rectifier.training, detector.training
    rectifier.eval()  # batch norm takes no single image, and counts what it sees
    detector.eval()
    grey = torch.full((1, 3, size, size), 127.0)
    try:
        with torch.no_grad():
            detector(grey - rectifier(grey))
    except (RuntimeError, ValueError, TypeError) as error:
        raise UapError(
            f"rectifier={cfg.rectifier.name} and detector={cfg.detector.name} do not take images "
            f"of side {size} ({' '.join(str(error).split())}): correct rectifier.model, "
            "detector.model or data.crop."
        ) from error
    rectifier.train(modes[0])
    detector.train(modes[1])
    return rectifier, detector


def load_matched(cfg: TrainConfig, size: int) -> list[TargetNetwork]:
    """The further networks whose early layers or answers are compared, on the run's device.

    Raises:
        UapError: the weights of one are missing, or it does not take images of side ``size``.
    """
    training = cfg.rectifier.training
    nodes = [] if training is None else training.loss.matched_networks
    found = []
    for number, node in enumerate(nodes):
        try:
            network = load_network(node, cfg.accelerator)
            network.classes(size)
        except UapError as error:
            key = f"rectifier.training.loss.matched_networks[{number}]"
            raise UapError(f"{key}: {error}") from error
        found.append(network)
    return found


def find_early(
    cfg: TrainConfig, networks: Sequence[TargetNetwork], size: int
) -> list[list[nn.Module]]:
    """The early layers of each network that the loss compares; none where it does not.

    Raises:
        UapError: a network has none.
    """
    training = cfg.rectifier.training
    if training is None or not training.loss.features:
        return []
    found = []
    for network in networks:
        try:
            found.append(early_layers(network, size))
        except UapError as error:
            raise UapError(f"{network.name}: {error}") from error
    return found


def build_module(
    cfg: TrainConfig,
    network: TargetNetwork,
    parts: tuple[nn.Module, nn.Module],
    condition: Condition,
    matched: Sequence[TargetNetwork] = (),
    early: Sequence[list[nn.Module]] = (),
    teacher: nn.Module | None = None,
) -> RectifierModule:
    """The LightningModule of the config around its rectifier and detector.

    Args:
        cfg: of the run.
        network: the target network.
        parts: of :func:`build_parts`.
        condition: what it is trained on.
        matched: of :func:`load_matched`.
        early: of :func:`find_early` for the target network and these.
        teacher: of :func:`~uap_lightning.jobs.origins.teacher_of`.
    """
    training = cfg.rectifier.training
    if training is None:
        return RectifierModule(network, *parts, condition)
    return RectifierModule(
        network,
        *parts,
        condition,
        cross_entropy=training.loss.cross_entropy,
        reconstruction=training.loss.reconstruction,
        matching=training.loss.matching,
        matching_from=training.loss.matching_from,
        features=training.loss.features,
        early=early,
        matched=matched,
        teacher=teacher,
        distillation=training.distillation,
        optimizer=build(training.optimizer, partial),
        scheduler=build(training.scheduler, partial) if training.scheduler else None,
    )
