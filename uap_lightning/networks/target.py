"""The target network: a frozen classifier that takes pixels."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from uap_lightning.core.errors import UapError
from uap_lightning.networks.weights import digest_of_weights

# Of the images that a door of the package takes.
_TYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)


class TargetNetwork(nn.Module):
    """A frozen classifier whose input is RGB images with values 0-255.

    Channel order, mean and scale live in here, so that attacks and rectifiers only ever see
    pixels. No parameter takes a gradient, ``train()`` does not change the mode, and gradients
    flow through to the input.

    Args:
        model: the classifier; it takes normalised N x 3 x H x W and returns N x K logits.
        name: how the network is called in records and results.
        mean: per-channel mean, or a mean image (3 x H x W), in pixel units, in the model's
            channel order; with an image the network takes no other size.
        std: per-channel scale in pixel units, in the model's channel order.
        bgr: the model expects blue first.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        name: str,
        mean: Sequence[float] | Tensor,
        std: Sequence[float],
        *,
        bgr: bool = False,
    ) -> None:
        super().__init__()
        # Channels last is 1.2 to 1.5 times as fast for convolutions on a CPU with AVX-512.
        self.model = model.eval().to(memory_format=torch.channels_last)
        self.name = name
        self.bgr = bgr
        self._classes: dict[int, int] = {}
        mean = torch.as_tensor(mean, dtype=torch.float32)
        self.register_buffer("mean", mean.view(-1, 1, 1) if mean.ndim == 1 else mean)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked for."""
        return self

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights, the mean, the scale and the channel order, for records (hex).

        The same weights behind another mean are another network: its predictions, and what was
        crafted on it, are not to be mistaken for the first one's.
        """
        digest = hashlib.sha256(digest_of_weights(self).encode())
        digest.update(b"bgr" if self.bgr else b"rgb")
        return digest.hexdigest()

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images.

        Args:
            images: float N x 3 x H x W, RGB, 0-255. Values a little outside are taken as they
                are: an attack may step out of the range while it searches.

        Returns:
            N x K logits.
        """
        if self.bgr:
            images = images.flip(1)
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.model(normalised)
        return logits

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """The predicted class of each image: N x 3 x H x W to N (int64)."""
        logits: Tensor = self(images)
        return logits.argmax(1)

    def classes(self, size: int) -> int:
        """The number of classes, from one grey image of side ``size``; later calls remember it.

        Raises:
            UapError: the network does not take images of this size, or returns no N x K logits.
        """
        if size not in self._classes:
            self._classes[size] = self._count_classes(size)
        return self._classes[size]

    @torch.no_grad()
    def _count_classes(self, size: int) -> int:
        try:
            logits = self(torch.full((1, 3, size, size), 127.0, device=self.mean.device))
        except Exception as error:  # a network of any make raises what it likes
            kinds = {t.dtype for t in self.state_dict().values() if t.is_floating_point()}
            for kind in kinds - {torch.float32}:
                raise UapError(
                    f"the network {self.name} has parameters that are {kind}: expected "
                    "torch.float32; call .float() on it before it is used."
                ) from error
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UapError(
                f"the network {self.name} does not take images of side {size} ({reason}): set "
                "data.crop, in training too, to the size it was made for, such as 224."
            ) from error
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UapError(
                f"the network {self.name} returns {found}: expected N x K logits; wrap it in a "
                "module that returns its logits."
            )
        return int(logits.shape[1])


def check_images(images: object) -> None:
    """Check the pixel contract at a door of the package.

    Args:
        images: what a caller handed in.

    Raises:
        UapError: no dense tensor of N x 3 x H x W with at least one image, neither uint8 nor
            floating point, or a value outside of 0-255.
    """
    if not isinstance(images, Tensor):
        raise UapError(
            f"images are a {type(images).__name__}: expected a tensor of N x 3 x H x W; "
            "torch.from_numpy makes one of an array."
        )
    if images.is_nested or images.layout != torch.strided or images.is_meta:
        kind = "nested" if images.is_nested else "meta" if images.is_meta else images.layout
        raise UapError(f"images are a tensor that is {kind}: expected a dense one with values.")
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise UapError(
            f"images have shape {tuple(images.shape)}: expected N x 3 x H x W, RGB, at least one."
        )
    if images.dtype not in _TYPES:
        raise UapError(f"images are {images.dtype}: expected uint8 or float32 with values 0-255.")
    if images.dtype == torch.uint8:
        return
    least, largest = (float(value) for value in images.detach().aminmax())
    if not (least >= 0 and largest <= 255):
        raise UapError(
            f"images span {least:.4g} to {largest:.4g}: expected values 0-255, not normalised ones."
        )
    if 0 < largest <= 1:
        raise UapError(
            "images span 0 to 1: expected values 0-255; multiply them by 255 "
            "(a batch of black images is passed as uint8)."
        )
