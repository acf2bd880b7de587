"""A tiny classifier whose weights are a formula: it needs no file and trains nothing."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.networks.target import TargetNetwork

CLASSES = 8
COARSE_PERIOD = 8.0
FINE_PERIOD = 2.5
_KERNEL = 9


def grating(angle: float, period: float, phase: float, size: int) -> Tensor:
    """A plane wave of amplitude 1: size x size.

    Args:
        angle: direction in which it varies, in radians.
        period: in pixels.
        phase: in radians.
        size: side in pixels.
    """
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.cos(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / period + phase)


class GratingEnergy(nn.Module):
    """Class k has the amplitude of grating k as its logit.

    Each class listens to a coarse grating, which the generated images show, and to a fine one,
    which only an attacker draws: a robust and a non-robust feature, as trained networks have.
    The amplitude is that of a quadrature pair, so that the phase does not matter.
    """

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(_KERNEL + 2, periodic=False)[1:-1]
        window = window[:, None] * window[None, :]
        kernels = []
        for k in range(CLASSES):
            for period in (COARSE_PERIOD, FINE_PERIOD):
                for phase in (0.0, math.pi / 2):
                    wave = grating(math.pi * k / CLASSES, period, phase, _KERNEL) * window
                    wave = wave - window * wave.sum() / window.sum()
                    kernels.append(wave / (wave * wave).sum().sqrt() / 3.0)
        stacked = torch.stack(kernels)[:, None].repeat(1, 3, 1, 1)
        self.register_buffer("kernels", stacked)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images of any scale: N x 3 x H x W to N x 8."""
        response = functional.conv2d(images, self.kernels, stride=2)
        pairs = response.reshape(images.shape[0], CLASSES, 2, 2, *response.shape[-2:])
        amplitude = (pairs.square().sum(3) + 1e-6).sqrt().mean((-2, -1))
        logits: Tensor = 8.0 * (amplitude[:, :, 0] + 1.5 * amplitude[:, :, 1])
        return logits


def tiny(name: str = "tiny") -> TargetNetwork:
    """The eight-class network for ``data=generated`` images, made for tests and dry runs.

    Args:
        name: what it is called in records; two names stand for two networks.
    """
    return TargetNetwork(GratingEnergy(), name, mean=[127.5] * 3, std=[127.5] * 3)
