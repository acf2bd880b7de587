"""How an attacker who knows the guard with memory varies a pattern from image to image."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

# What each query draws from.
_SHIFT = 16
_NOISE = 4.0

Vary = Callable[[Tensor, torch.Generator], Tensor]


def shift(rho: Tensor, generator: torch.Generator) -> Tensor:
    """The pattern rolled by up to 16 pixels each way, anew for each image."""
    by = torch.randint(-_SHIFT, _SHIFT + 1, (2,), generator=generator).tolist()
    return rho.roll(by, (-2, -1))


def sign(rho: Tensor, generator: torch.Generator) -> Tensor:
    """The pattern or its negative."""
    return rho * (1 - 2 * int(torch.randint(2, (1,), generator=generator)))


def gain(rho: Tensor, generator: torch.Generator) -> Tensor:
    """The pattern at half to full strength."""
    return rho * float(0.5 + 0.5 * torch.rand((), generator=generator))


def grey(rho: Tensor, generator: torch.Generator) -> Tensor:
    """The pattern without colour, at its largest value everywhere."""
    return rho.mean(dim=0, keepdim=True).expand_as(rho).sign() * rho.abs().max()


def coarse(rho: Tensor, generator: torch.Generator, cells: int) -> Tensor:
    """The pattern as a grid of cells x cells values, interpolated, of the same largest value."""
    small = torch.nn.functional.adaptive_avg_pool2d(rho[None], cells)
    size = rho.shape[-2:]
    smooth = torch.nn.functional.interpolate(small, size=size, mode="bicubic")[0]
    limit = rho.abs().max()
    # Enlarged until it is at the limit where it was: what is smoothed away is strength.
    return (smooth * limit / smooth.abs().mean().clamp_min(1e-6)).clamp(-limit, limit)


def noise(rho: Tensor, generator: torch.Generator) -> Tensor:
    """The pattern and Gaussian noise of 4 pixel values, anew for each image."""
    return rho + _NOISE * torch.randn(rho.shape, generator=generator)


VARIATIONS: dict[str, Vary] = {
    "plain": lambda rho, generator: rho,
    "shift": shift,
    "sign": sign,
    "gain": gain,
    "grey": grey,
    "grid 32": partial(coarse, cells=32),
    "grid 16": partial(coarse, cells=16),
    "grid 8": partial(coarse, cells=8),
    "noise": noise,
    "jpeg 75": lambda rho, generator: rho,
}
