"""Distances between rectified and clean images: of pixels, and of a network's answers."""

import torch
from torch import Tensor, nn
from torch.nn import functional

RECONSTRUCTION_SCALE = 10.0
SMOOTHING = 0.01


def divergence(
    network: nn.Module, rectified: Tensor, clean: Tensor, logits: Tensor | None = None
) -> Tensor:
    """Mean Kullback-Leibler divergence of a network's answers on rectified from clean images.

    ``logits`` are its answers on the rectified ones, where they are known.
    """
    with torch.no_grad():
        aim = network(clean).log_softmax(1)
    answer = (network(rectified) if logits is None else logits).log_softmax(1)
    return functional.kl_div(answer, aim, reduction="batchmean", log_target=True)


def charbonnier(rectified: Tensor, clean: Tensor) -> Tensor:
    """Mean of sqrt(e^2 + 0.01) for e = (rectified - clean) / 10, both in pixel units."""
    error = (rectified - clean) / RECONSTRUCTION_SCALE
    return (error.square() + SMOOTHING).sqrt().mean()
