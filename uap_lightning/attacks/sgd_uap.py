"""The gradient UAP: momentum steps along the steepest direction of the ball."""

import torch
from torch import Tensor
from torch.nn import functional

from uap_lightning.attacks.universal import Universal
from uap_lightning.data.crops import Images
from uap_lightning.errors import UapError
from uap_lightning.networks import TargetNetwork
from uap_lightning.norms import LpNorm
from uap_lightning.progress import track


def sgd_uap(
    network: TargetNetwork,
    images: Images,
    labels: Tensor,
    norm: LpNorm,
    seed: int,
    *,
    steps: int = 90,
    batch_size: int = 8,
    step_size: float = 0.2,
    momentum: float = 0.9,
) -> Universal:
    """Turn the logits of random batches away from the clean ones.

    The loss is the mean cosine similarity of perturbed and clean logits (Cosine-UAP of Zhang et
    al., ICCV 2021), which no margin can satisfy early. Each step follows the momentum of the
    gradient along the direction that is steepest in the ball's norm (its sign for l_inf), and
    projects. The step size falls along a line to zero.

    Args:
        network: the target network.
        images: crafting images.
        labels: not used: the clean logits say more than their largest.
        norm: the ball that rho lives in.
        seed: of the starting point and the batches.
        steps: gradient steps.
        batch_size: images a step.
        step_size: of the first step, as a share of the radius.
        momentum: of the gradient, from 0 to below 1.

    Raises:
        UapError: a setting is out of its range, or a gradient is not finite.
    """
    if steps < 1 or batch_size < 1 or not step_size > 0 or not 0 <= momentum < 1:
        raise UapError(
            f"attack has steps {steps}, batch_size {batch_size}, step_size {step_size}, momentum "
            f"{momentum}: expected the first three above 0 and momentum from 0 to below 1."
        )
    device = network.mean.device
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(images.take([0]).shape[1:], generator=generator) * 2 - 1
    rho = (0.5 * norm.eps * norm.normalise(start)).to(device)
    velocity = torch.zeros_like(rho)
    drawn = torch.randint(len(images), (steps, batch_size), generator=generator)
    clean = clean_logits(network, images, torch.unique(drawn).tolist())
    for step, numbers in enumerate(track(drawn.tolist(), "Crafting a gradient UAP")):
        batch = images.take(numbers).to(device).float()
        rho.requires_grad_()
        logits = network((batch + rho).clamp(0, 255))
        similarity = functional.cosine_similarity(logits, clean[numbers].to(device)).mean()
        (gradient,) = torch.autograd.grad(similarity, rho)
        if not bool(gradient.isfinite().all()):
            raise UapError(
                f"the gradient of step {step + 1} (images {numbers[:4]}...) is not finite on the "
                f"network {network.name}: check its weights and its normalisation."
            )
        velocity = momentum * velocity + gradient / gradient.abs().mean().clamp_min(1e-20)
        length = step_size * norm.eps * (1 - step / steps)
        rho = norm.project(rho.detach() - length * norm.steepest(velocity))
    return Universal(rho.cpu(), steps * batch_size / len(images))


@torch.no_grad()
def clean_logits(
    network: TargetNetwork, images: Images, numbers: list[int], batch_size: int = 64
) -> Tensor:
    """The logits of some clean images, each computed once: N x K, zero for the others."""
    table = torch.zeros(0)
    for start in range(0, len(numbers), batch_size):
        block = numbers[start : start + batch_size]
        logits = network(images.take(block).to(network.mean.device).float()).cpu()
        if not len(table):
            table = torch.zeros(len(images), logits.shape[1])
        table[block] = logits
    return table
