"""Momentum descent inside a ball: what the gradient families have in common."""

from collections.abc import Callable

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import track
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


class NoGradient(UapError):
    """No gradient reached the perturbation, so nothing is known of how robust the network is."""


def descend(
    loss: Callable[[Tensor, list[int]], Tensor],
    start: Tensor,
    batches: list[list[int]],
    network: TargetNetwork,
    norm: Ball,
    *,
    step_size: float,
    momentum: float,
    description: str,
    stop: Callable[[int, Tensor], bool] | None = None,
) -> Tensor:
    """Minimise a loss over the ball.

    Each step follows the momentum of the gradient along the direction that is steepest in the
    ball's norm (its sign for l_inf), and projects. The step size falls along a line to zero.

    Args:
        loss: of a perturbation on the images with these numbers, a scalar.
        start: where the descent starts, 3 x H x W.
        batches: the numbers of the images of each step; empty lists for a loss without images.
        network: the target network.
        norm: the ball.
        step_size: of the first step, as a share of the radius.
        momentum: of the gradient, from 0 to below 1.
        description: of the progress bar.
        stop: says of a step's number (from 0) and the perturbation after it whether that is the
            last one (:func:`~uap_lightning.attacks.stopping.stopping`).

    Returns:
        the perturbation, 3 x H x W, on the network's device.

    Raises:
        UapError: a setting is out of its range, or a gradient is not finite; the images and the
            step are named.
        NoGradient: every gradient is zero.
    """
    if not batches or not 0 < step_size <= 1 or not 0 <= momentum < 1:
        raise UapError(
            f"attack has steps {len(batches)}, step_size {step_size}, momentum {momentum}: "
            "expected at least 1 step, a step_size above 0 and at most 1, and momentum from 0 to "
            "below 1."
        )
    rho = start.to(network.mean.device)
    velocity = torch.zeros_like(rho)
    reached = False
    for step, numbers in enumerate(track(batches, description)):
        rho.requires_grad_()
        gradient = gradient_of(loss(rho, numbers), rho)
        if not bool(gradient.isfinite().all()):
            of_images = f" (images {', '.join(map(str, numbers))})" if numbers else ""
            raise UapError(
                f"the gradient of step {step + 1}{of_images} is not finite on the network "
                f"{network.name}: check its weights and its normalisation."
            )
        reached = reached or bool(gradient.any())
        velocity = momentum * velocity + gradient / gradient.abs().mean().clamp_min(1e-20)
        length = step_size * norm.eps * (1 - step / len(batches))
        rho = norm.project(rho.detach() - length * norm.steepest(velocity))
        last = step + 1 == len(batches)
        if stop is not None and not last and stop(step, rho):
            break
    if not reached:
        raise NoGradient(
            f"the gradient of all {step + 1} steps is zero on the network {network.name}: no "
            "perturbation was searched for, so this says nothing of how robust it is; take an "
            "attack without gradients (attack=deepfool_uap), or look for what cuts the gradient."
        )
    return rho


def gradient_of(value: Tensor, at: Tensor, *, retain: bool = False) -> Tensor:
    """The gradient of a scalar; zero where nothing reaches it, as behind a network of steps."""
    if not value.requires_grad:
        return torch.zeros_like(at)
    gradient: Tensor = torch.autograd.grad(value, at, retain_graph=retain)[0]
    return gradient


def random_start(size: torch.Size, norm: Ball, generator: torch.Generator) -> Tensor:
    """A random point halfway to the surface of the ball: 3 x H x W."""
    return 0.5 * norm.eps * norm.normalise(torch.rand(size, generator=generator) * 2 - 1)


def draw_batches(
    count: int, steps: int, batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    """Random numbers of images for each step, drawn with replacement.

    Raises:
        UapError: no step or no image a step.
    """
    if steps < 1 or batch_size < 1:
        raise UapError(
            f"attack has steps {steps} and batch_size {batch_size}: expected at least 1 of each."
        )
    drawn: list[list[int]] = torch.randint(count, (steps, batch_size), generator=generator).tolist()
    return drawn
