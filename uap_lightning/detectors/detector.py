"""What a detector is, and how one is fitted in front of a rectifier."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn


class Detector(Protocol):
    """Decides 'perturbed' from I - R(I); a score above 0 means perturbed."""

    def features(self, difference: Tensor) -> Tensor:
        """N x 3 x H x W to N x features."""

    def fit(self, features: Tensor, perturbed: Tensor) -> None:
        """Fit on features and on which of them are of perturbed images."""

    def __call__(self, difference: Tensor) -> Tensor:
        """N x 3 x H x W to scores, N."""


@torch.no_grad()
def fit_detector(
    detector: Detector,
    rectifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
) -> None:
    """Fit ``detector`` on what ``rectifier`` removes from training images (section 4.3).

    Args:
        detector: fitted in place.
        rectifier: trained.
        batches: images (float N x 3 x H x W, 0-255) and which of them are perturbed (bool, N).
    """
    features = []
    perturbed = []
    for images, coins in batches:
        features.append(detector.features(images - rectifier(images)).cpu())
        perturbed.append(coins.cpu())
    detector.fit(torch.cat(features), torch.cat(perturbed))
