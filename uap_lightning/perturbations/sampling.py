"""How training images are perturbed: a coin, a member of P*, and its variations."""

from dataclasses import dataclass

import torch
from torch import Tensor

from uap_lightning.errors import UapError


@dataclass
class PerturbationSampler:
    """Adds a random member of P* to a random share of a batch, on the batch's device.

    The random numbers of a step depend on the seed and the step alone, so that training goes on
    after an interruption as if there had been none.

    Attributes:
        perturbations: P*, K x 3 x H x W, pixel units.
        share: probability that an image is perturbed; the paper's is 0.5.
        vary: flip, roll and negate each drawn perturbation; a rectifier that has only a few to
            learn from then learns what they have in common.
        seed: of the draws.
    """

    perturbations: Tensor
    share: float
    vary: bool
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UapError(
                f"rectifier.perturbed_share is {self.share}: expected a probability above 0 and "
                "at most 1, such as the paper's 0.5."
            )

    def __call__(self, images: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Perturb a batch.

        Args:
            images: float N x 3 x H x W, 0-255.
            step: number of the training step.

        Returns:
            clamp(I + rho, 0, 255) where the coin fell so and I elsewhere, and the coins (bool, N).
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        self.perturbations = self.perturbations.to(images.device)
        which = torch.randint(len(self.perturbations), (len(images),), generator=generator)
        coin = torch.rand(len(images), generator=generator) < self.share
        rho = self.perturbations[which.to(images.device)]
        if self.vary:
            rho = torch.stack([varied(one, generator) for one in rho])
        coin = coin.to(images.device)
        perturbed = (images + rho).clamp(0, 255)
        return torch.where(coin[:, None, None, None], perturbed, images), coin


def varied(rho: Tensor, generator: torch.Generator) -> Tensor:
    """A perturbation flipped, rolled and negated at random: 3 x H x W, the same norm."""
    flip, mirror, negate = (torch.rand(3, generator=generator) < 0.5).tolist()
    down = int(torch.randint(rho.shape[1], (), generator=generator))
    right = int(torch.randint(rho.shape[2], (), generator=generator))
    axes = [axis for axis, chosen in ((1, flip), (2, mirror)) if chosen]
    rho = rho.roll((down, right), (1, 2)).flip(axes)
    return -rho if negate else rho
