"""The UAP of few photographs: crops of them, and a place where nearby perturbations fool too."""

import torch
from torch import Tensor
from torch.nn import functional

from uap_lightning.attacks.cosine_uap import turned_away
from uap_lightning.attacks.stopping import stopping
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


def flat_uap(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    noise: float = 0.6,
    least_crop: float = 0.3,
    steps: int = 130,
    batch_size: int = 8,
    step_size: float = 0.2,
    momentum: float = 0.9,
    stop_at: float | None = None,
    patience: int | None = None,
) -> Universal:
    """:func:`~uap_lightning.attacks.cosine_uap.cosine_uap` that carries over from few photographs.

    A photograph is shown in another random crop each time, enlarged again and mirrored in half of
    the cases. The gradient is taken beside the perturbation, at a random distance from it, so that
    what is found fools in a whole neighbourhood: flat places carry over to unseen images, as
    DM-UAP (AAAI 2025) argues, which searches for the worst neighbour instead.

    Crafted on 128 photographs it fools more of the unseen ones than
    :func:`~uap_lightning.attacks.cosine_uap.cosine_uap` (docs/benchmarks.md).

    Args:
        network: the target network.
        images: crafting images.
        predictions: for stopping early alone.
        norm: the ball that rho lives in.
        seed: of the starting point, the batches, the crops and the noise.
        noise: deviation of the distance in each pixel, as a share of the largest root mean square
            in the ball; at least 0.
        least_crop: smallest share of a photograph's area that a crop has, above 0 and at most 1.
        steps: gradient steps.
        batch_size: images a step.
        step_size: of the first step, as a share of the radius.
        momentum: of the gradient, from 0 to below 1.
        stop_at: as for :func:`~uap_lightning.attacks.cosine_uap.cosine_uap`.
        patience: likewise.

    Raises:
        UapError: a setting is out of its range, or a gradient is not finite.
    """
    if not 0 <= noise < float("inf") or not 0 < least_crop <= 1:
        raise UapError(
            f"attack has noise {noise} and least_crop {least_crop}: expected noise of at least 0, "
            "and a share of the photograph above 0 and at most 1."
        )
    generator = torch.Generator().manual_seed(seed)
    size = images.take([0]).shape[1:]
    largest = norm.eps if norm.p == float("inf") else norm.eps / size.numel() ** 0.5
    deviation = noise * largest

    def beside(rho: Tensor) -> Tensor:
        return rho + deviation * torch.randn(size, generator=generator).to(rho.device)

    def cropped(photographs: Tensor) -> Tensor:
        return random_crops(photographs, least_crop, generator)

    return turned_away(
        network,
        images,
        norm,
        seed,
        steps=steps,
        batch_size=batch_size,
        step_size=step_size,
        momentum=momentum,
        shown=cropped,
        tried=beside,
        stop=stopping(network, images, predictions, stop_at, patience),
    )


def random_crops(images: Tensor, least: float, generator: torch.Generator) -> Tensor:
    """A crop of each image, enlarged to its size by bilinear interpolation, half of them mirrored.

    Args:
        images: float N x 3 x H x W.
        least: smallest share of the area that a crop has; shares are drawn evenly up to 1.
        generator: of the draws.
    """
    area, across, down, mirror = torch.rand(4, len(images), generator=generator)
    side = (least + (1 - least) * area).sqrt()
    # Coordinates of grid_sample run from -1 to 1, so a crop's centre may lie 1 - side off 0.
    centre = (2 * torch.stack([across, down]) - 1) * (1 - side)
    affine = torch.zeros(len(images), 2, 3)
    affine[:, 0, 0] = torch.where(mirror < 0.5, -side, side)
    affine[:, 1, 1] = side
    affine[:, :, 2] = centre.T
    grid = functional.affine_grid(affine.to(images.device), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
