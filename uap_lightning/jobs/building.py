"""What a training is of: rectifier, detector, and the LightningModule around both."""

from functools import partial

import torch
from torch import nn

from uap_lightning.core.errors import UapError
from uap_lightning.jobs.config import build
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.jobs.stages import Condition, load_network
from uap_lightning.networks import TargetNetwork
from uap_lightning.training.module import RectifierModule


def build_parts(cfg: TrainConfig, size: int) -> tuple[nn.Module, nn.Module]:
    """Rectifier and detector of the config, tried on a grey image before any work.

    Raises:
        UapError: one of them does not take images of side ``size``.
    """
    rectifier, detector = (build(p.model, nn.Module) for p in (cfg.rectifier, cfg.detector))
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
    return rectifier, detector


def build_module(
    cfg: TrainConfig,
    network: TargetNetwork,
    parts: tuple[nn.Module, nn.Module],
    condition: Condition,
) -> RectifierModule:
    """The LightningModule of the config around its rectifier and detector."""
    training = cfg.rectifier.training
    if training is None:
        return RectifierModule(network, *parts, condition)
    matched = training.loss.matched_networks
    return RectifierModule(
        network,
        *parts,
        condition,
        cross_entropy=training.loss.cross_entropy,
        reconstruction=training.loss.reconstruction,
        matching=training.loss.matching,
        matching_from=training.loss.matching_from,
        matched=[load_network(node, cfg.accelerator) for node in matched],
        optimizer=build(training.optimizer, partial),
        scheduler=build(training.scheduler, partial) if training.scheduler else None,
    )
