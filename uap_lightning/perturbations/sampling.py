"""How images are perturbed: at random in training, by one paired draw in testing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball

# Draws that make a relative: ten move it, ten the other one, five mix and weaken.
_MOVES = 10
CHANCES = 2 * _MOVES + 5


@dataclass
class PerturbationSampler:
    """Adds a random member of P* to a random share of a batch, on the batch's device.

    The random numbers of a step depend on the seed and the step alone, so that training goes on
    after an interruption as if there had been none.

    Attributes:
        perturbations: P*, K x 3 x S x S, pixel units; squares where ``vary`` turns them.
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
        device = images.device
        self.perturbations = self.perturbations.to(device)
        size = len(images) if size is None else size
        which = self._draw(size, generator)
        coin = torch.rand(size, generator=generator) < self.share
        others = self._draw(size, generator)
        chances = torch.rand(size, CHANCES, generator=generator)
        exponent = torch.rand(size, generator=generator)
        # All is drawn on the processor and sent without waiting for the device, which then moves
        # all perturbations at once, of the images alone that are perturbed.
        mine = torch.arange(size) if positions is None else torch.tensor(positions)
        hit = coin[mine].nonzero()[:, 0]
        drawn = mine[hit]
        if self.vary:
            rho = varied(self.perturbations, which[drawn], others[drawn], chances[drawn])
        else:
            rho = self.perturbations[sent(which[drawn], device)]
        if self.strengths is not None:
            low, high = self.strengths
            factor = low * (high / low) ** exponent[drawn]
            rho = rho * sent(factor, device)[:, None, None, None]
        elif self.vary:
            rho = self.norm.project(rho)
        hit = sent(hit, device)
        perturbed = images.index_copy(0, hit, (images[hit] + rho).clamp(0, 255))
        return perturbed, sent(coin[mine], device)

    def _draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Which perturbation each of ``size`` images gets: int64."""
        if self.weights is None:
            return torch.randint(len(self.perturbations), (size,), generator=generator)
        return torch.multinomial(self.weights, size, replacement=True, generator=generator)


def sent(drawn: Tensor, device: torch.device) -> Tensor:
    """A tensor of the processor on a device, without waiting for what that is at."""
    if device.type != "cuda":
        return drawn.to(device)
    return drawn.pin_memory().to(device, non_blocking=True)


def varied(perturbations: Tensor, which: Tensor, others: Tensor, chances: Tensor) -> Tensor:
    """A random relative of each of some perturbations: N x 3 x S x S.

    Flips, transposition, a roll, negation and an order of the channels, each at random; at times
    a mixture with another perturbation so treated, which may be larger than either; at times
    weakened, to half its strength at least.

    Args:
        perturbations: P*, K x 3 x S x S.
        which: the perturbation that each is a relative of, N.
        others: what each is mixed with, N.
        chances: even draws from 0 to below 1 that decide all this, N x ``CHANCES``.
    """
    device = perturbations.device
    relatives = moved(perturbations[sent(which, device)], chances[:, :_MOVES])
    mix, weaken, a, b, strength = chances[:, 2 * _MOVES :].T
    mixed = (mix < 0.3).nonzero()[:, 0]
    joining = sent(others[mixed], device)
    joined = moved(perturbations[joining], chances[mixed, _MOVES : 2 * _MOVES])
    own = torch.where(mix < 0.3, 0.4 + 0.6 * a, 1.0)
    own = torch.where(weaken < 0.3, own * (0.5 + 0.5 * strength), own)
    other = torch.where(weaken < 0.3, 0.5 + 0.5 * strength, 1.0) * (0.4 + 0.6 * b)
    relatives = relatives * sent(own, device)[:, None, None, None]
    joined = joined * sent(other[mixed], device)[:, None, None, None]
    return relatives.index_add_(0, sent(mixed, device), joined)


def moved(rho: Tensor, chances: Tensor) -> Tensor:
    """Flipped, rolled, transposed, negated perturbations in an order of their channels.

    Args:
        rho: N x 3 x S x S.
        chances: even draws from 0 to below 1, N x 10: whether to flip, mirror, transpose, negate
            and permute, how far to roll down and right, and three that make the order.
    """
    count, _, side, _ = rho.shape
    device = rho.device
    flip, mirror, transpose, negate, permute = (
        chances[:, :5] < torch.tensor([0.5, 0.5, 0.5, 0.5, 0.25])
    ).T
    down, right = (chances[:, 5:7] * side).long().T
    order = torch.where(permute[:, None], chances[:, 7:10].argsort(1), torch.arange(3))
    sign = torch.where(negate, -1.0, 1.0)
    # Where each row and column comes from, and with them each pixel: one gather moves all.
    places = torch.arange(side)
    rows, columns = (places - down[:, None]) % side, (places - right[:, None]) % side
    rows = torch.where(flip[:, None], rows.flip(1), rows)
    columns = torch.where(mirror[:, None], columns.flip(1), columns)
    rows, columns = sent(rows, device), sent(columns, device)
    pixels = rows[:, :, None] * side + columns[:, None]
    turned = sent(transpose, device)[:, None, None]
    pixels = torch.where(turned, pixels.transpose(1, 2), pixels).flatten(1)
    channels = rho[torch.arange(count, device=device)[:, None], sent(order, device)]
    gathered = channels.flatten(2).gather(2, pixels[:, None].expand(-1, 3, -1))
    return gathered.view_as(rho) * sent(sign, device)[:, None, None, None]


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
