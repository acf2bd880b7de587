"""How an attacker who knows the guard with memory varies a pattern from image to image."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

# What each query draws from.
_SHIFT = 16
_NOISE = 4.0

# The pattern, the image that it is added to, all patterns that the attacker has, and chance.
Vary = Callable[[Tensor, Tensor, list[Tensor], torch.Generator], Tensor]


def shift(rho: Tensor, image: Tensor, others: list[Tensor], generator: torch.Generator) -> Tensor:
    """The pattern rolled by up to 16 pixels each way, anew for each image."""
    by = torch.randint(-_SHIFT, _SHIFT + 1, (2,), generator=generator).tolist()
    return rho.roll(by, (-2, -1))


def sign(rho: Tensor, image: Tensor, others: list[Tensor], generator: torch.Generator) -> Tensor:
    """The pattern or its negative."""
    return rho * (1 - 2 * int(torch.randint(2, (1,), generator=generator)))


def gain(rho: Tensor, image: Tensor, others: list[Tensor], generator: torch.Generator) -> Tensor:
    """The pattern at half to full strength."""
    return rho * float(0.5 + 0.5 * torch.rand((), generator=generator))


def grey(rho: Tensor, image: Tensor, others: list[Tensor], generator: torch.Generator) -> Tensor:
    """The pattern without colour, at its largest value everywhere."""
    return rho.mean(dim=0, keepdim=True).expand_as(rho).sign() * rho.abs().max()


def coarse(
    rho: Tensor, image: Tensor, others: list[Tensor], generator: torch.Generator, *, cells: int
) -> Tensor:
    """The pattern as a grid of cells x cells values, interpolated, of the same largest value."""
    small = functional.adaptive_avg_pool2d(rho[None], cells)
    size = rho.shape[-2:]
    smooth = functional.interpolate(small, size=size, mode="bicubic")[0]
    limit = rho.abs().max()
    # Enlarged until it is at the limit where it was: what is smoothed away is strength.
    return (smooth * limit / smooth.abs().mean().clamp_min(1e-6)).clamp(-limit, limit)


def noise(rho: Tensor, image: Tensor, others: list[Tensor], generator: torch.Generator) -> Tensor:
    """The pattern and Gaussian noise of 4 pixel values, anew for each image."""
    return rho + _NOISE * torch.randn(rho.shape, generator=generator)


def contrast(
    rho: Tensor, image: Tensor, others: list[Tensor], generator: torch.Generator
) -> Tensor:
    """The pattern strong where the image is busy: none of it on flat areas, all on the busiest."""
    grey = image.float().mean(dim=0)[None, None]
    padded = functional.pad(grey, (3,) * 4, mode="reflect")
    variance = (
        functional.avg_pool2d(padded.square(), 7, 1) - functional.avg_pool2d(padded, 7, 1).square()
    )
    deviation = variance.clamp_min(0).sqrt()[0]
    scaled: Tensor = rho * (deviation / deviation.quantile(0.9).clamp_min(1e-6)).clamp(max=1)
    return scaled


def mixture(rho: Tensor, image: Tensor, others: list[Tensor], generator: torch.Generator) -> Tensor:
    """A fresh one for each image: random shares of all patterns, at the length of the first."""
    shares = -torch.rand(len(others), generator=generator).log()
    mixed = torch.einsum("k,kchw->chw", shares, torch.stack(others))
    return mixed * float(others[0].norm() / mixed.norm().clamp_min(1e-6))


VARIATIONS: dict[str, Vary] = {
    "plain": lambda rho, image, others, generator: rho,
    "shift": shift,
    "sign": sign,
    "gain": gain,
    "grey": grey,
    "grid 32": partial(coarse, cells=32),
    "grid 16": partial(coarse, cells=16),
    "grid 8": partial(coarse, cells=8),
    "noise": noise,
    "contrast": contrast,
    "mixture": mixture,
    "jpeg 75": lambda rho, image, others, generator: rho,
}
