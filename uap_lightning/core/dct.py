"""The discrete cosine transform as a matrix, so that it is differentiable and exports."""

import math

import torch
from torch import Tensor


def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II as a matrix: size x size, float32.

    Entry (k, n) is sqrt(2 / size) cos(pi (2 n + 1) k / (2 size)), and sqrt(1 / size) for k = 0.
    """
    n = torch.arange(size, dtype=torch.float64)
    k = n[:, None]
    matrix = torch.cos(math.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
    matrix[0] = math.sqrt(1 / size)
    return matrix.float()
