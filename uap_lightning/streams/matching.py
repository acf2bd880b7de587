"""Scores: how much of one whitened residual is in another, and the matched filter."""

import math

import torch
from torch import Tensor

from uap_lightning.streams.whitening import Whitener

# The brightness that a pattern is whitened on: neither end of the range is near.
_GREY = 127.5
# Patterns that are whitened at once.
_BATCH = 32
# What subtracting may leave of a pattern, as a share of what was there, the other way round: an
# estimate of four images leaves as much again of its own errors, and a pattern of which an image
# holds a part alone leaves more than twice that part.
_OVERSHOOT = 1.3


def scores(residuals: Tensor, others: Tensor) -> Tensor:
    """Inner products times the root of their length d: N x d and M x d to N x M.

    Of two clean photographs they have a deviation of about 1, of two images with one pattern 30 to
    300, of one such image with the pattern's template likewise.
    """
    return residuals @ others.T * math.sqrt(residuals.shape[1])


@torch.no_grad()
def templates(whitener: Whitener, patterns: Tensor) -> Tensor:
    """What a matched filter looks for: the whitened residual of each pattern, of length 1.

    Args:
        whitener: of the images' size.
        patterns: K x 3 x H x W, pixel units.

    Returns:
        K x d; zeros for a pattern that is zero.
    """
    found = torch.cat([whitener(_GREY + some) for some in torch.split(patterns, _BATCH)])
    lengths = found.norm(dim=1, keepdim=True)
    # A pattern of a fraction of a grey level leaves nothing to look for.
    return torch.where(lengths > 1e-3, found / lengths.clamp_min(1e-3), torch.zeros_like(found))


@torch.no_grad()
def explained(
    whitener: Whitener, images: Tensor, patterns: Tensor, filters: Tensor, found: Tensor
) -> Tensor:
    """Whether subtracting a pattern leaves less of it in an image than there was.

    An image may hold a part of a pattern and be clean: the users' own watermark, when an attacker
    has sent images with that watermark and a perturbation, which were estimated as one pattern.
    Subtracting all of it would add the negative of the perturbation.

    Args:
        whitener: of the images' size.
        images: float N x 3 x H x W, 0-255.
        patterns: the one that may be in each, N x 3 x H x W, pixel units.
        filters: the template of each, N x d.
        found: the score of each image with it, N.

    Returns:
        bool N.
    """
    residuals = whitener((images - patterns).clamp(0, 255))
    left = (residuals * filters).sum(dim=1) * math.sqrt(residuals.shape[1])
    whole: Tensor = left >= -_OVERSHOOT * found
    return whole
