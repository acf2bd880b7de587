"""A universal attack in one step: all images' gradients are added up and followed to the bound."""

import torch
from torch import Tensor
from torch.nn import functional

from uap_lightning.attacks import Universal
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.norms import LpNorm


def mean_gradient(
    network: TargetNetwork,
    images: Images,
    labels: Tensor,
    norm: LpNorm,
    seed: int,
    batch_size: int,
    start: float,
) -> Universal:
    """The point of the ball in the direction in which the loss of all images rises most.

    Args:
        network: the frozen classifier, RGB, 0-255.
        images: what is crafted on; ``take`` gives uint8, N x 3 x H x W.
        labels: the network's predictions on the clean images.
        norm: the ball that rho lives in.
        seed: of the random start, so that each perturbation of a bank is another one.
        batch_size: images a backward pass.
        start: length of the random start, as a share of the radius.
    """
    device = network.mean.device
    generator = torch.Generator().manual_seed(seed)
    shape = images.take([0]).shape[1:]
    noise = norm.normalise(torch.randn(shape, generator=generator)) * norm.eps * start
    rho = noise.to(device).requires_grad_()
    total = torch.zeros_like(rho)
    for first in range(0, len(images), batch_size):
        numbers = range(first, min(first + batch_size, len(images)))
        batch = images.take(numbers).to(device).float()
        logits = network((batch + rho).clamp(0, 255))
        loss = functional.cross_entropy(logits, labels[list(numbers)].to(device), reduction="sum")
        total += torch.autograd.grad(loss, rho)[0]
    crafted = norm.project(rho.detach() + norm.eps * norm.steepest(total))
    return Universal(crafted.cpu(), passes=1.0)
