"""No detector: every image is rectified."""

import torch
from torch import Tensor, nn


class NoDetector(nn.Module):
    """Scores every image 1, so that the guard rectifies them all.

    Its detection rate is the share of perturbed images, and the defense rate equals the
    PRN-restoration.
    """

    def features(self, difference: Tensor) -> Tensor:
        """No features: N x 3 x H x W to N x 0."""
        return torch.zeros(len(difference), 0)

    def fit(self, features: Tensor, perturbed: Tensor) -> None:
        """Nothing to fit."""

    def forward(self, difference: Tensor) -> Tensor:
        """Score 1 for each difference: N x 3 x H x W to N."""
        return torch.ones(difference.shape[0], device=difference.device)
