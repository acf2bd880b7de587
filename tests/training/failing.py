"""Rectifiers that fail to learn, each in its way; also copied to where a real command finds it."""

import os

import torch
from torch import nn

from uap_lightning.rectifiers import RECTIFIERS


@RECTIFIERS.register("drifting")
class Drifting(nn.Module):
    """Adds noise, ``rate`` more (or nan) each step past ``after``; in one process or all."""

    def __init__(self, rate="0.5", after=0, process=""):
        super().__init__()
        self.rate = float(rate)
        self.after = after
        self.drifts = os.environ.get("LOCAL_RANK", "0").startswith(process)
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, images):
        if self.training and torch.is_grad_enabled():
            self.steps += 1
        past = float(self.steps) - self.after
        shift = self.rate * past if past > 0 and self.drifts else 0.0
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(images.shape[1:], generator=generator)
        return images + shift * noise + 0 * self.weight


@RECTIFIERS.register("cusp")
class Cusp(nn.Module):
    """Of a finite loss whose gradient is none: the root at 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        return images + self.weight.abs().sqrt()


@RECTIFIERS.register("grey")
class Grey(nn.Module):
    """One colour for all images, which it learns: the loss falls, and the network knows nothing."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, images):
        return 0 * images + 100 * self.weight
