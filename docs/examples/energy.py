"""A detector of one feature: how much the rectifier removed."""

import torch
from torch import Tensor, nn

from uap_lightning.detectors import DETECTORS


# The name that a defence folder calls it by.
@DETECTORS.register("energy")
class Energy(nn.Module):
    """Scores log ||I - R(I)||_2 against the middle between clean and perturbed images."""

    threshold: Tensor

    def __init__(self) -> None:
        super().__init__()
        # A buffer, so that it is saved in detector.safetensors and moves to the device.
        self.register_buffer("threshold", torch.zeros(()))

    def features(self, difference: Tensor) -> Tensor:
        """I - R(I), N x 3 x H x W in pixel units, to N x 1."""
        return difference.flatten(1).norm(dim=1, keepdim=True).clamp_min(1e-3).log()

    def fit(self, features: Tensor, perturbed: Tensor) -> None:
        """Put the threshold half-way between the means of both kinds."""
        middle = (features[perturbed].mean() + features[~perturbed].mean()) / 2
        self.threshold.copy_(middle)

    def forward(self, difference: Tensor) -> Tensor:
        """N x 3 x H x W to scores, N; above 0 means perturbed."""
        return self.features(difference)[:, 0] - self.threshold
