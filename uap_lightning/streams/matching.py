"""Scores: how much of one whitened residual is in another, and the matched filter."""

import math

import torch
from torch import Tensor

from uap_lightning.streams.whitening import Whitener

# The brightness that a pattern is whitened on: neither end of the range is near.
_GREY = 127.5


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
    found = whitener(_GREY + patterns)
    lengths = found.norm(dim=1, keepdim=True)
    # A pattern of a fraction of a grey level leaves nothing to look for.
    return torch.where(lengths > 1e-3, found / lengths.clamp_min(1e-3), torch.zeros_like(found))
