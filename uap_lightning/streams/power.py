"""The power of a search that found nothing: how small a pattern it would have found."""

import math

import torch
from torch import Tensor

from uap_lightning.streams.matching import scores
from uap_lightning.streams.whitening import Whitener

# Values that the power is computed at, pixel units.
LEVELS = (1, 2, 4, 6, 8, 10)
# Share of the pairs that must score above the threshold.
SHARE = 0.95


@torch.no_grad()
def smallest_found(
    whitener: Whitener, images: Tensor, threshold: float, grain: int = 1, seed: int = 0
) -> int | None:
    """The smallest of ``LEVELS`` at which at least 95 % of pairs would have been found.

    A pattern of random signs times the level is added to every image, which is then clipped, as
    files are.

    Args:
        whitener: of the images' size.
        images: N x 3 x H x W, 0-255, at least 2, of different photographs.
        threshold: score above which a pair counts as found.
        grain: side in pixels of the squares that one sign fills; the larger, the smoother the
            pattern and the more it looks like what photographs hold themselves.
        seed: of the signs.

    Returns:
        pixel units; None where the largest level would not be found either.
    """
    size = whitener.size
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 2, (3, *(math.ceil(size / grain),) * 2), generator=generator)
    fine = coarse.repeat_interleave(grain, 1).repeat_interleave(grain, 2)[:, :size, :size]
    signs = (2 * fine - 1).float().to(images.device)
    upper = torch.triu(torch.ones(len(images), len(images), dtype=torch.bool), 1)
    for level in LEVELS:
        residuals = whitener((images.float() + level * signs).clamp(0, 255))
        found = scores(residuals, residuals).cpu()[upper] > threshold
        if float(found.double().mean()) >= SHARE:
            return level
    return None
