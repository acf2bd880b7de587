"""How images are perturbed: at random in training, by one paired draw in testing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball


@dataclass
class PerturbationSampler:
    """Adds a random member of P* to a random share of a batch, on the batch's device.

    The random numbers of a step depend on the seed and the step alone, so that training goes on
    after an interruption as if there had been none.

    Attributes:
        perturbations: P*, K x 3 x H x W, pixel units.
        share: probability that an image is perturbed; the paper's is 0.5.
        vary: draw a random relative of each perturbation (:func:`varied`); a rectifier that has
            only a few to learn from then learns what they have in common.
        norm: the ball; relatives are projected onto it, unless ``strengths`` are given.
        seed: of the draws.
        strengths: each perturbation is multiplied by a factor between these two, drawn evenly on
            a scale of logarithms; None leaves it as it is.
        weights: how often each perturbation is drawn, K, relative to the others; None: equally.
    """

    perturbations: Tensor
    share: float
    vary: bool
    norm: Ball
    seed: int
    strengths: tuple[float, float] | None = None
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UapError(
                f"perturbed_share is {self.share}: expected a probability above 0 and at most 1, "
                "such as the paper's 0.5."
            )

    def __call__(
        self, images: Tensor, step: int, positions: list[int] | None = None, size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Perturb a batch.

        Args:
            images: float N x 3 x H x W, 0-255.
            step: number of the training step.
            positions: places of these images in the step's batch, where processes share it.
            size: images of that batch. Each process draws for all of them and keeps its own.

        Returns:
            clamp(I + rho, 0, 255) where the coin fell so and I elsewhere, and the coins (bool, N).
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        self.perturbations = self.perturbations.to(images.device)
        size = len(images) if size is None else size
        which = self._draw(size, generator)
        coin = torch.rand(size, generator=generator) < self.share
        rho = self.perturbations[which.to(images.device)]
        if self.vary:
            others = self._draw(size, generator)
            mixed = zip(rho, self.perturbations[others.to(images.device)], strict=True)
            rho = torch.stack([varied(one, other, generator) for one, other in mixed])
        if self.strengths is not None:
            low, high = self.strengths
            factor = low * (high / low) ** torch.rand(size, generator=generator)
            rho = rho * factor.to(images.device)[:, None, None, None]
        elif self.vary:
            rho = self.norm.project(rho)
        if positions is not None:
            rho, coin = rho[positions], coin[positions]
        coin = coin.to(images.device)
        perturbed = (images + rho).clamp(0, 255)
        return torch.where(coin[:, None, None, None], perturbed, images), coin

    def _draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Which perturbation each of ``size`` images gets: int64."""
        if self.weights is None:
            return torch.randint(len(self.perturbations), (size,), generator=generator)
        return torch.multinomial(self.weights, size, replacement=True, generator=generator)


def varied(rho: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """A random relative of a perturbation: 3 x H x W.

    Flips, transposition, a roll, negation and an order of the channels, each at random; at times
    a mixture with another perturbation so treated, which may be larger than either; at times
    weakened, to half its strength at least.

    Args:
        rho: 3 x H x W; square.
        other: what it is mixed with.
        generator: of the draws.
    """
    relative = _moved(rho, generator)
    mix, weaken, a, b, strength = torch.rand(5, generator=generator).tolist()
    if mix < 0.3:
        relative = (0.4 + 0.6 * a) * relative + (0.4 + 0.6 * b) * _moved(other, generator)
    return relative * (0.5 + 0.5 * strength) if weaken < 0.3 else relative


def _moved(rho: Tensor, generator: torch.Generator) -> Tensor:
    flip, mirror, transpose, negate, permute = torch.rand(5, generator=generator).tolist()
    down = int(torch.randint(rho.shape[1], (), generator=generator))
    right = int(torch.randint(rho.shape[2], (), generator=generator))
    order = torch.randperm(3, generator=generator)
    axes = [axis for axis, chance in ((1, flip), (2, mirror)) if chance < 0.5]
    moved = rho.roll((down, right), (1, 2)).flip(axes)
    moved = moved.transpose(1, 2) if transpose < 0.5 else moved
    moved = moved[order.to(rho.device)] if permute < 0.25 else moved
    return -moved if negate < 0.5 else moved


@dataclass(frozen=True)
class PairedDraw:
    """The coin and the perturbation of every test image, drawn once from the seed.

    Attributes:
        perturbations: test perturbations, K x 3 x H x W.
        perturbation: which of them each image gets (int64, N).
        coin: uniform in [0, 1); the image counts as perturbed where it is below a protocol's
            ``perturbed_share`` (float32, N).
    """

    perturbations: Tensor
    perturbation: Tensor
    coin: Tensor


def draw_pairs(perturbations: Tensor, count: int, seed: int) -> PairedDraw:
    """Draw a perturbation and a coin for each of ``count`` test images."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(perturbations), (count,), generator=generator)
    return PairedDraw(perturbations, which, torch.rand(count, generator=generator))
