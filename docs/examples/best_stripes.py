"""A universal attack without gradients: of many striped patterns, the one that fools most."""

import math

import torch
from torch import Tensor

from uap_lightning.attacks import Universal
from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


def best_stripes(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    tries: int,
    period: float,
) -> Universal:
    """The best of ``tries`` plane waves of random direction, period, phase and colour.

    Args:
        network: the frozen classifier, RGB, 0-255.
        images: what is crafted on; ``take`` gives uint8, N x 3 x H x W.
        predictions: the network's predictions on the clean images.
        norm: the ball that rho lives in.
        seed: of the patterns.
        tries: how many patterns are compared.
        period: longest distance between two stripes, in pixels; the shortest is 2.
    """
    generator = torch.Generator().manual_seed(seed)
    size = images.take([0]).shape[-1]
    best, most = torch.zeros(3, size, size), -1.0
    for _ in range(tries):
        rho = norm.eps * norm.normalise(stripes(size, period, generator))
        fooled = fooling_ratio(network, images, predictions, rho)
        if fooled > most:
            best, most = rho, fooled
    return Universal(norm.project(best), passes=float(tries))


def stripes(size: int, period: float, generator: torch.Generator) -> Tensor:
    """A plane wave in each channel: 3 x size x size, values -1 and 1."""
    angle, length, phase = torch.rand(3, generator=generator).tolist()
    colour = torch.rand(3, 1, 1, generator=generator) * math.pi
    wave = 2 * math.pi / (2 + length * (period - 2))
    place = torch.arange(size)
    along = place * math.cos(math.pi * angle) + place[:, None] * math.sin(math.pi * angle)
    return torch.cos(wave * along + 2 * math.pi * phase + colour).sign()
