"""Protocols A and B of the paper (section 5), and the one draw that both are measured on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from uap_lightning.errors import UapError


@dataclass(frozen=True)
class Protocol:
    """Which test images count, and how many of them are perturbed.

    Attributes:
        correct_only: only images that the target network classifies correctly when clean
            (protocol B), or all of them (protocol A).
        perturbed_share: probability that a test image is perturbed.
    """

    correct_only: bool
    perturbed_share: float

    def __post_init__(self) -> None:
        if not 0 < self.perturbed_share < 1:
            raise UapError(
                f"protocol perturbed_share is {self.perturbed_share}: expected a probability "
                "between 0 and 1, such as the paper's 0.5."
            )


@dataclass(frozen=True)
class TestDraw:
    """The coin and the perturbation of every test image, drawn once from the seed.

    Attributes:
        perturbations: test perturbations, K x 3 x H x W.
        perturbation: which of them each image gets (int64, N).
        coin: uniform in [0, 1); the image counts as perturbed where it is below a protocol's
            ``perturbed_share`` (float32, N).
    """

    __test__ = False  # not a test case, whatever its name says to pytest

    perturbations: Tensor
    perturbation: Tensor
    coin: Tensor


def draw_test(perturbations: Tensor, count: int, seed: int) -> TestDraw:
    """Draw a perturbation and a coin for each of ``count`` test images."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(perturbations), (count,), generator=generator)
    return TestDraw(perturbations, which, torch.rand(count, generator=generator))
