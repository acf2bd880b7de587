"""Sketches: 1,024 bytes that find a pair of images without their pixels."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BITS = 8_192
Sketches = NDArray[np.uint64]


# Of a description, so that all that is remembered of a million images fits in 2 GB.
DESCRIBED = 3_584
_TOGETHER = 1_024


def sketch(residuals: Tensor, bits: int = BITS) -> Sketches:
    """The signs of 8,192 (``bits``) of a residual's numbers: N x d to N x 128 words of 64.

    Whitened numbers are nearly independent, so that any of them tell as much as a random
    projection would, at no cost; which ones is the same in every process. Signs keep 2 / pi of a
    small correlation. Where there are fewer numbers than bits, some are taken twice.
    """
    length = residuals.shape[1]
    order = torch.randperm(length, generator=torch.Generator().manual_seed(length))
    chosen = order[torch.arange(bits) % length].to(residuals.device)
    signs = (residuals[:, chosen] > 0).cpu().numpy()
    return np.packbits(signs, axis=1).view(np.uint64)


def sketch_scores(some: Sketches, others: Sketches) -> NDArray[np.float32]:
    """Deviations by which the signs of two residuals agree more often than half: N x M."""
    bits = some.shape[1] * 64
    found = np.empty((len(some), len(others)), np.float32)
    # Of so few that what is computed of them stays in the processor's cache.
    for first in range(0, len(others), _TOGETHER):
        block = others[first : first + _TOGETHER]
        differing, counts = np.empty_like(block), np.empty(block.shape, np.uint8)
        for row, one in enumerate(some):
            np.bitwise_count(np.bitwise_xor(one, block, out=differing), out=counts)
            apart = counts.sum(axis=1, dtype=np.int32)
            found[row, first : first + len(block)] = (bits - 2 * apart) / bits**0.5
    return found
