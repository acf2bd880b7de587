"""A guard of formulas, patterns and images with them, for tests of the guard with memory."""

import math

import torch
from torch import nn
from torch.nn import functional

from tests.tiny import scenes
from uap_lightning.guard.guard import Guard
from uap_lightning.networks import TargetNetwork
from uap_lightning.networks.tiny import GratingEnergy, grating
from uap_lightning.streams.whitening import Whitener


class Blur(nn.Module):
    """The mean over 3 x 3 pixels."""

    def forward(self, images):
        return functional.avg_pool2d(functional.pad(images, (1,) * 4, mode="reflect"), 3, 1)


class Rough(nn.Module):
    """Fires where the blur removes much: on some images, clean or not."""

    def forward(self, removed):
        return removed.flatten(1).std(1) - 11


class ColoursAndGratings(nn.Module):
    """Six classes of coarse colours, and eight that only an attacker draws, each a fine grating."""

    def __init__(self):
        super().__init__()
        self.gratings = GratingEnergy()
        weight = torch.randn(6, 48, generator=torch.Generator().manual_seed(2))
        self.register_buffer("weight", weight)

    def forward(self, images):
        coarse = functional.avg_pool2d(images, 16).flatten(1) @ self.weight.T
        response = functional.conv2d(images, self.gratings.kernels, stride=2)
        pairs = response.reshape(len(images), 8, 2, 2, *response.shape[-2:])
        fine = pairs[:, :, 1].square().sum(2).sqrt().mean((-2, -1))
        return torch.cat([coarse, 400 * (fine - FINE)], 1)


# Amplitude that no scene has and every perturbation.
FINE = 0.3


def make_network():
    return TargetNetwork(ColoursAndGratings(), "colours", [127.5] * 3, [64.0] * 3)


def make_guard():
    return Guard(make_network(), Blur(), Rough())


def make_whitener():
    return Whitener(64).fit(scenes(120, seed=1))


def noise(seed, eps):
    """Signs, which change no prediction."""
    return eps * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(seed)).sign()


def perturbation(seed=0, eps=10.0):
    """It makes the network see one class in nearly every image."""
    wave = grating(math.pi * (seed % 8) / 8, 2.5, 0.3, 64).sign()
    return (noise(seed, eps / 2) + eps / 2 * wave).clamp(-eps, eps)


def logo():
    """A watermark in a corner, which changes hardly any prediction."""
    made = torch.zeros(3, 64, 64)
    made[:, 46:60, 6:58] = noise(5, 25.0)[:, 46:60, 6:58]
    return made


def attacked(images, rho):
    return (images.float() + rho).round().clamp(0, 255).to(torch.uint8)
