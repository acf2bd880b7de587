"""The guard: target network, rectifier and detector as one module."""

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from uap_lightning.core.device import computes_bf16
from uap_lightning.core.errors import UapError
from uap_lightning.guard.defense_folder import Defense, load_defense
from uap_lightning.networks import TargetNetwork, check_images


@dataclass(frozen=True)
class Inspection:
    """What the guard saw in a batch of images.

    Attributes:
        logits: of the target network on what it was given, N x K.
        score: of the detector, N; above 0 means perturbed.
        perturbed: the decision, bool N.
        rectified: the rectified images, N x 3 x H x W, whether used or not.
    """

    logits: Tensor
    score: Tensor
    perturbed: Tensor
    rectified: Tensor


class Guard(nn.Module):
    """A target network behind a rectifier that acts only where the detector fires.

    The detector judges what the rectifier removes, so every image is rectified, used or not:
    the rectifier's cost is the guard's overhead.

    Calling the guard is differentiable in the images. The gate is a step function: its exact
    gradient, which is 0 almost everywhere, tells an attack nothing of the detector. With
    ``soft_gate`` the logits are the same, but in the backward pass the gate is
    sigmoid(score), a straight-through estimate, so that an attack can also learn to evade the
    detector.

    Args:
        network: the frozen classifier.
        rectifier: maps images to rectified images.
        detector: scores I - R(I).
        soft_gate: let gradients through the decision.
        bf16: compute the rectifier in bf16 on a device that has instructions for it; see
            :meth:`load`.
    """

    def __init__(
        self,
        network: TargetNetwork,
        rectifier: nn.Module,
        detector: nn.Module,
        *,
        soft_gate: bool = False,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.rectifier = rectifier
        self.detector = detector
        self.soft_gate = soft_gate
        self.bf16 = bf16
        self._defense: Defense | None = None

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked for: so it was tested."""
        return super().train(False)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        network: nn.Module,
        *,
        mean: Iterable[float] | None = None,
        std: Iterable[float] | None = None,
        bgr: bool = False,
        bf16: bool = False,
    ) -> "Guard":
        """Put a classifier behind the defence of a folder.

        Args:
            folder: a defence folder that training wrote.
            network: a TargetNetwork, or any classifier that returns N x K logits. Unless
                ``mean`` and ``std`` are given, it takes RGB pixels from 0 to 255. It is put in
                evaluation mode and frozen, in place, and stays on its device; the rectifier and
                the detector join it there.
            mean: subtracted from the pixels before the network sees them, in pixel units
                (0-255), one number a channel in the network's order.
            std: divides them, in pixel units.
            bgr: the network expects blue first.
            bf16: compute the rectifier in bf16 where the device has instructions for it, which
                takes about half the time there; elsewhere it changes nothing. Network and
                detector stay in full precision. What was measured was measured without it. Only
                for rectifiers that predict what to remove (``residual``), whose rounding is a
                fraction of a pixel value.

        Raises:
            UapError: the folder is not whole, or the network does not take images of the size
                that the defence was trained on, or returns no logits; or ``bf16`` is asked of a
                rectifier that draws the whole image.

        Warns:
            UserWarning: the network has another number of classes than the one that the defence
                was trained for, or is a TargetNetwork of another name. Any other classifier of as
                many classes passes unnoticed. The rectifier does not depend on the network; its
                measured rates do.
        """
        defense = load_defense(folder)
        if bf16 and not getattr(defense.rectifier, "residual", False):
            raise UapError(
                f"bf16 is true and the rectifier of {folder} ({defense.condition['rectifier']}) "
                "draws the whole image, which bf16 has too few digits for: leave bf16=False."
            )
        target = as_target(network, mean, std, bgr=bgr)
        weights = chain(target.model.parameters(), target.model.buffers())
        device = next((tensor.device for tensor in weights), torch.device("cpu"))
        guard = cls(target, defense.rectifier, defense.detector, bf16=bf16).to(device)
        guard.eval().requires_grad_(False)
        guard._defense = defense
        _compare(defense, target, named=target is network)
        return guard

    @property
    def defense(self) -> Defense:
        """The defence that it was loaded with.

        Raises:
            UapError: it was put together from its parts.
        """
        if self._defense is None:
            raise UapError("the guard was put together by hand: use one that Guard.load returned.")
        return self._defense

    @property
    def digest(self) -> str | None:
        """Digest of the defence that it was loaded with; None where it was put together by hand."""
        return None if self._defense is None else self._defense.digest

    def rectify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """R(images) and the detector's score of what that removed, in full precision.

        With ``bf16``, R alone is computed in bf16.

        Args:
            images: float N x 3 x H x W, 0-255, not checked.
        """
        device = images.device
        with full_precision(device):
            if self.bf16 and computes_bf16(device):
                with torch.autocast(device.type, torch.bfloat16):
                    rectified: Tensor = self.rectifier(images).float()
            else:
                rectified = self.rectifier(images)
            score: Tensor = self.detector(images - rectified)
        return rectified, score

    def gate(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the network is given of float images, the detector's score, and R(images).

        Args:
            images: float N x 3 x H x W, 0-255, not checked.

        Returns:
            images, rectified where the score is above 0 (N x 3 x H x W), the score (N), and
            the rectified images (N x 3 x H x W).
        """
        rectified, score = self.rectify(images)
        given = torch.where((score > 0)[:, None, None, None], rectified, images)
        if self.soft_gate:
            weight = score.sigmoid()
            slope = (weight - weight.detach())[:, None, None, None]
            given = given + slope * (rectified - images).detach()
        return given, score, rectified

    def judge(self, images: Tensor) -> Inspection:
        """Gate and network, without the checks of the door: differentiable, and exportable.

        Args:
            images: float N x 3 x H x W, 0-255; an attack may step out of the range.
        """
        given, score, rectified = self.gate(images)
        return Inspection(self.network(given), score, score > 0, rectified)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, through the defence; differentiable in the images.

        Args:
            images: N x 3 x H x W, RGB, 0-255, uint8 or float, on the guard's device; a batch of
                no image is refused.

        Raises:
            UapError: the images break the pixel contract, or are on another device.
        """
        return self.judge(self.checked(images)).logits

    @torch.no_grad()
    def inspect(self, images: Tensor) -> Inspection:
        """Classify images and say what was detected and rectified; takes what a call takes.

        Raises:
            UapError: as in a call.
        """
        return self.judge(self.checked(images))

    def checked(self, images: Tensor) -> Tensor:
        """Images as float, once they keep the contract of the door.

        Raises:
            UapError: as in a call.
        """
        check_images(images)
        device = self.network.mean.device
        if images.device != device:
            raise UapError(
                f"images are on {images.device} and the guard is on {device}: move one of them by "
                f".to({str(device)!r})."
            )
        return images.float()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast and no TF32 in convolutions: rounding would be part of what the detector judges.

    cuDNN's other settings stay as the caller has them.
    """
    cudnn: Any = torch.backends.cudnn  # its parts have no types
    with ExitStack() as stack:
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda" and cudnn.conv.fp32_precision == "tf32":
            kept = ("enabled", "benchmark", "benchmark_limit", "deterministic", "depthwise_kernel")
            flags = {name: getattr(cudnn, name) for name in kept}
            stack.enter_context(cudnn.flags(**flags, allow_tf32=False, fp32_precision="ieee"))
        yield


def as_target(
    network: nn.Module, mean: Iterable[float] | None, std: Iterable[float] | None, *, bgr: bool
) -> TargetNetwork:
    """Any classifier as a target network; see :meth:`Guard.load` for the arguments.

    Raises:
        UapError: mean and std do not fit the network.
    """
    if isinstance(network, TargetNetwork):
        if mean is not None or std is not None or bgr:
            raise UapError(
                f"the network {network.name} is a TargetNetwork and normalises by itself: leave "
                "out mean, std and bgr."
            )
        return network
    means = [0.0] * 3 if mean is None else _numbers("mean", mean)
    stds = [1.0] * 3 if std is None else _numbers("std", std)
    if min(stds) <= 0:
        raise UapError(f"std is {stds}: expected numbers above 0; leave it out for 1.")
    if 0 < max(means) <= 1:
        raise UapError(
            f"mean is {means}: expected pixel units from 0 to 255; multiply mean and std by 255."
        )
    return TargetNetwork(network, type(network).__name__, means, stds, bgr=bgr)


def _numbers(name: str, values: Iterable[float]) -> list[float]:
    """Three finite numbers of a tuple, an array or a tensor."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, RuntimeError) as error:
        said = " ".join(str(values).split())
        raise UapError(f"{name} is {said}: expected three numbers, one a channel.") from error
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise UapError(f"{name} is {numbers}: expected three finite numbers, one a channel.")
    return numbers


def _compare(defense: Defense, network: TargetNetwork, *, named: bool) -> None:
    """Refuse what cannot work and warn of what was not measured."""
    classes = network.classes(defense.size)
    trained, expected = defense.condition.get("train_network"), defense.condition.get("classes")
    other_classes = isinstance(expected, int) and classes != expected
    other_name = named and trained is not None and network.name != trained
    if other_classes or other_name:
        known = f" of {expected} classes" if isinstance(expected, int) else ""
        warnings.warn(
            f"the defence was trained for {trained}{known} and guards {network.name} of "
            f"{classes} classes: it works, but its measured rates hold for {trained} alone; "
            "measure this pair by python -m uap_lightning.evaluate.",
            stacklevel=3,
        )
