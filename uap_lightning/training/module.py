"""The LightningModule: a trainable rectifier in front of a frozen network."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from uap_lightning.core.errors import UapError
from uap_lightning.guard.guard import Guard
from uap_lightning.networks import TargetNetwork
from uap_lightning.training.features import feature_distance
from uap_lightning.training.losses import charbonnier, divergence
from uap_lightning.training.outcomes import outcomes

_OURS = ("rectifier.", "detector.")


class RectifierModule(LightningModule):
    """Trains a rectifier so that the frozen network sees through the perturbation.

    The loss is ``cross_entropy`` times equation 2 of the paper (cross-entropy of the joint
    network to the network's own prediction on the clean image) plus ``reconstruction`` times the
    Charbonnier loss mean(sqrt(e^2 + 0.01)) of e = (R(I_rho) - I) / 10, which the paper does not
    have and small collections need, plus ``matching`` times the Kullback-Leibler divergence of
    the network's answer on the rectified image from its answer on the clean one, which says more
    of the clean image than its class (distillation). The divergence joins when ``matching_from``
    of the steps are done. ``features`` times
    :func:`~uap_lightning.training.features.feature_distance` compares what the network's early
    layers see. With ``matched`` networks both are those of the network and of each of these, a
    step each in turn. With a ``teacher`` all but the cross-entropy compare with an image between
    the clean one and what the teacher makes of I_rho (distillation: Hinton, Vinyals and Dean,
    2015).

    The network's weights are not part of the checkpoint.

    Args:
        network: the frozen target network.
        rectifier: what is trained.
        detector: fitted after training.
        condition: what this is trained on, as strings and numbers; part of the checkpoint.
        cross_entropy: weight of equation 2.
        reconstruction: weight of the reconstruction term.
        matching: weight of the divergence of the answers.
        matching_from: share of the steps before it joins, 0-1.
        features: weight of the distance of the early layers.
        early: :func:`~uap_lightning.training.features.early_layers` of the network and of each of
            ``matched``, where ``features`` is above 0.
        matched: further networks whose answers or early layers are matched, on the network's
            device.
        teacher: a larger rectifier, frozen, whose images are learned; not part of the checkpoint.
        distillation: where between the clean image (0) and the teacher's (1) the aim of a taught
            training lies; validation compares with the clean image.
        optimizer: builds the optimizer from the rectifier's parameters; None where nothing is
            trained, only tested.
        scheduler: builds the learning-rate schedule, stepped after each batch; None keeps the
            rate. It is given ``total_steps`` if it takes that argument.
    """

    def __init__(
        self,
        network: TargetNetwork,
        rectifier: nn.Module,
        detector: nn.Module,
        condition: Mapping[str, str | int | float | None],
        cross_entropy: float = 0.0,
        reconstruction: float = 0.0,
        matching: float = 0.0,
        matching_from: float = 0.0,
        features: float = 0.0,
        early: Sequence[list[nn.Module]] = (),
        matched: Sequence[TargetNetwork] = (),
        teacher: nn.Module | None = None,
        distillation: float = 0.5,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        scheduler: Callable[..., LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.rectifier = rectifier
        self.detector = detector
        self.cross_entropy = cross_entropy
        self.reconstruction = reconstruction
        self.matching = matching
        self.matching_from = matching_from
        self.features = features
        self.early = early
        self.answering = nn.ModuleList([network, *matched])
        self.teacher = teacher
        self.distillation = distillation
        self.matching_step = 0
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.strict_loading = False
        # Loggers get the whole config, whose groups have some of these names.
        self.save_hyperparameters(dict(condition), logger=False)

    def guard(self) -> Guard:
        """The defence as it stands."""
        return Guard(self.network, self.rectifier, self.detector)

    def compile_rectifier(self, batch: Tensor) -> None:
        """Let the training steps use a compiled rectifier, and try it on a batch.

        Args:
            batch: as many images as a step has, on the module's device and in its precision.

        Raises:
            UapError: PyTorch cannot compile it here.
        """
        compiled: Callable[[Tensor], Tensor] = torch.compile(self.rectifier.forward)
        before = deepcopy(self.rectifier.state_dict())  # batch norm counts what it sees
        try:
            compiled(batch).sum().backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the compiler, the C++ or the GPU's tools: they share none
            reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise UapError(
                f"rectifier.training.compile is true and PyTorch cannot compile the rectifier here "
                f"({type(error).__name__}: {reason}): install what it names, such as a C++ "
                "compiler, or set it to false."
            ) from error
        self.rectifier.zero_grad()
        self.rectifier.load_state_dict(before)
        self._compiled = compiled

    def loss(
        self,
        rectified: Tensor,
        clean: Tensor,
        prediction: Tensor,
        answering: Sequence[nn.Module] | None = None,
        turn: int = 0,
    ) -> Tensor:
        """The loss of rectified images.

        Args:
            rectified: N x 3 x H x W.
            clean: the same images, clean, or what :meth:`aim` gives.
            prediction: their classes, N.
            answering: networks whose mean divergence joins, if any; None for all of them.
            turn: number of the network whose early layers are compared, the target network's is 0.
        """
        loss: Tensor = rectified.new_zeros(())
        if self.reconstruction:
            loss = loss + self.reconstruction * charbonnier(rectified, clean)
        if self.features:
            seeing, layers = self.answering[turn], self.early[turn]
            loss = loss + self.features * feature_distance(seeing, layers, rectified, clean)
        if self.cross_entropy:
            logits = self.network(rectified)
            loss = loss + self.cross_entropy * functional.cross_entropy(logits, prediction)
        answering = list(self.answering) if answering is None else answering
        if self.matching and answering:
            # What equation 2 has asked the target network already is not asked again.
            given = logits if self.cross_entropy else None
            apart = [
                divergence(one, rectified, clean, given if one is self.network else None)
                for one in answering
            ]
            loss = loss + self.matching * torch.stack(apart).mean()
        return loss

    @torch.no_grad()
    def aim(self, clean: Tensor, given: Tensor) -> Tensor:
        """What rectified images are to look like: the clean ones, or nearer to the teacher's.

        Args:
            clean: N x 3 x H x W.
            given: the same images as the rectifier is given them.
        """
        if self.teacher is None:
            return clean
        return torch.lerp(clean.float(), self.teacher(given).float(), self.distillation)

    def on_train_start(self) -> None:
        """Which step is the first one with matching."""
        steps = int(self.trainer.estimated_stepping_batches)
        self.matching_step = round(self.matching_from * steps)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch from :class:`~uap_lightning.data.TrainingDataModule`."""
        rectify = self._compiled or self.rectifier
        rectified = rectify(batch["input"])
        turn = self.global_step % len(self.answering)
        answering = [self.answering[turn]] if self.global_step >= self.matching_step else []
        aim = self.aim(batch["image"], batch["input"])
        loss = self.loss(rectified, aim, batch["prediction"], answering, turn)
        loss = loss * batch.get("weight", 1.0)
        self.log("train/loss", loss, sync_dist=True)
        return loss

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The fields of :class:`~uap_lightning.results.metrics.Outcomes`, for one batch."""
        known = batch["label"] >= 0
        # Training may run in half precision; what is reported does not.
        with torch.autocast(self.device.type, enabled=False):
            outcome = outcomes(
                self.guard(),
                batch["image"],
                batch["rho"],
                photograph=batch["photograph"],
                perturbation=batch["perturbation"],
                label=torch.where(known, batch["label"], batch["prediction"]),
                coin=batch["coin"],
            )
        return dict(vars(outcome))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over the rectifier's parameters, if any, and its schedule by step.

        Raises:
            UapError: PyTorch refuses a setting of theirs.
        """
        if self.optimizer is None:
            return None
        try:
            optimizer = self.optimizer(self.rectifier.parameters())
            if self.scheduler is None:
                return optimizer
            extra = {}
            if "total_steps" in inspect.signature(self.scheduler).parameters:
                extra["total_steps"] = int(self.trainer.estimated_stepping_batches)
            schedule = self.scheduler(optimizer, **extra)
        except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
            raise UapError(
                f"rectifier.training.optimizer or scheduler does not fit ({error}): correct the "
                "value that is named."
            ) from error
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the network's weights out."""
        checkpoint["state_dict"] = {
            key: value for key, value in checkpoint["state_dict"].items() if key.startswith(_OURS)
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not hold exactly this rectifier and detector.

        Raises:
            UapError: a tensor is missing, unknown or of another shape.
        """
        found = cast(dict[str, Tensor], checkpoint["state_dict"])
        expected = {k: v for k, v in self.state_dict().items() if k.startswith(_OURS)}
        differing = [
            key
            for key in {**expected, **found}
            if key not in found or key not in expected or found[key].shape != expected[key].shape
        ]
        if differing:
            raise UapError(
                f"the checkpoint does not fit this rectifier ({differing[0]} differs): resume "
                "with the settings it was trained with, or start anew with overwrite=true."
            )


def read_condition(path: str) -> dict[str, object]:
    """The training condition that a checkpoint of ours carries.

    Raises:
        UapError: the file is missing, unreadable, or not a checkpoint of this package.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        hyperparameters = dict(content["hyper_parameters"])
        hyperparameters["train_network"]
    except Exception as error:  # torch.load has no narrower set of errors for a bad file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UapError(
            f"{path} is not a checkpoint of uap_lightning ({reason}): give a last.ckpt from the "
            "checkpoints folder of a run, or leave ckpt_path=null."
        ) from error
    return hyperparameters
