"""Stochastic gradient aggregation: many small steps to find the direction of one."""

import torch
from torch import Tensor

from uap_lightning.attacks.cosine_uap import clean_logits
from uap_lightning.attacks.descent import descend, draw_batches, gradient_of, random_start
from uap_lightning.attacks.losses import LOSSES
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


def sga(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    loss: str = "cross_entropy",
    steps: int = 45,
    batch_size: int = 16,
    inner: int = 4,
    inner_batch_size: int = 4,
    step_size: float = 0.2,
    momentum: float = 0.9,
) -> Universal:
    """Steps along the mean of the gradients that a walk of small steps meets.

    SGA of Liu et al. (ICCV 2023). A step draws a batch. From the perturbation as it is, ``inner``
    small steps each follow the gradient of a few of its images; the perturbation itself then
    follows, with momentum, the mean of these gradients (:func:`descend`). The small batches keep
    the gradient from vanishing and leave bad optima, their mean is steadier than any of them.

    Args:
        network: the target network.
        images: crafting images.
        predictions: the network's on them, N.
        norm: the ball that rho lives in.
        seed: of the starting point and the batches.
        loss: ``cross_entropy`` (SGA's, clamped at 9 an image), ``cosine`` or ``margin``.
        steps: outer steps.
        batch_size: images an outer step draws.
        inner: small steps in each.
        inner_batch_size: images of each of these, at most ``batch_size``.
        step_size: of the first outer step, as a share of the radius; an inner step is a quarter
            of it.
        momentum: of the mean gradient, from 0 to below 1.

    Raises:
        UapError: a setting is out of its range, or a gradient is not finite.
    """
    if loss not in LOSSES:
        raise UapError(f"attack.loss is {loss}: expected one of {', '.join(LOSSES)}.")
    if inner < 1 or not 1 <= inner_batch_size <= batch_size:
        raise UapError(
            f"attack has inner {inner} and inner_batch_size {inner_batch_size}: expected at least "
            f"1 of each, and at most batch_size ({batch_size}) images."
        )
    device = network.mean.device
    generator = torch.Generator().manual_seed(seed)
    start = random_start(images.take([0]).shape[1:], norm, generator)
    batches = draw_batches(len(images), steps, batch_size, generator)
    clean = clean_logits(network, images, sorted({n for batch in batches for n in batch}))

    def fooled(rho: Tensor, numbers: list[int]) -> Tensor:
        perturbed = (images.take(numbers).to(device).float() + rho).clamp(0, 255)
        aim = torch.stack([clean[number] for number in numbers])
        return LOSSES[loss](network(perturbed), aim, predictions[numbers].to(device))

    def aggregated(rho: Tensor, numbers: list[int]) -> Tensor:
        """A number whose gradient is the mean of those that the inner walk meets."""
        walked, total = rho.detach(), torch.zeros_like(rho)
        for _ in range(inner):
            chosen = torch.randperm(len(numbers), generator=generator)[:inner_batch_size]
            walked.requires_grad_()
            found = fooled(walked, [numbers[place] for place in chosen.tolist()])
            gradient = gradient_of(found, walked)
            total = total + gradient / inner
            step = 0.25 * step_size * norm.eps * norm.steepest(gradient)
            walked = norm.project(walked.detach() - step)
        return (rho * total.detach()).sum()

    rho = descend(
        aggregated,
        start,
        batches,
        network,
        norm,
        step_size=step_size,
        momentum=momentum,
        description="Crafting a UAP by aggregated gradients",
    )
    return Universal(rho.cpu(), steps * inner * inner_batch_size / len(images))
