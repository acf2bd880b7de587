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
    steps: int = 60,
    batch_size: int = 16,
    step_size: float = 0.2,
    momentum: float = 0.9,
) -> Universal:
    """Minimise the clean class's logit over random batches (after Shafahi et al., AAAI 2020).

    Each step follows the momentum of the gradient along the direction that is steepest in the
    ball's norm (its sign for l_inf), and projects. The step size falls along a line to zero.

    Args:
        network: the target network.
        images: crafting images.
        labels: the network's own predictions on them, N.
        norm: the ball that rho lives in.
        seed: of the starting point and the batches.
        steps: gradient steps.
        batch_size: images a step.
        step_size: of the first step, as a share of the radius.
        momentum: of the gradient, between 0 and 1.

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
    rho = norm.project(0.1 * norm.eps * norm.normalise(start)).to(device)
    velocity = torch.zeros_like(rho)
    for step in track(range(steps), "Crafting a gradient UAP"):
        numbers = torch.randint(len(images), (batch_size,), generator=generator).tolist()
        batch = images.take(numbers).to(device).float()
        rho.requires_grad_()
        logits = network((batch + rho).clamp(0, 255))
        loss = -functional.cross_entropy(logits, labels[numbers].to(device))
        (gradient,) = torch.autograd.grad(loss, rho)
        if not bool(gradient.isfinite().all()):
            raise UapError(
                f"the gradient of step {step + 1} (images {numbers[:4]}...) is not finite on the "
                f"network {network.name}: check its weights and its normalisation."
            )
        velocity = momentum * velocity + norm.normalise(gradient)
        length = step_size * norm.eps * (1 - step / steps)
        rho = norm.project(rho.detach() - length * norm.steepest(velocity))
    return Universal(rho.cpu(), steps * batch_size / len(images))
