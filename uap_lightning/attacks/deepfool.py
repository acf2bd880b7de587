"""DeepFool: the smallest step that takes one image over a linearised decision boundary."""

from typing import NamedTuple

import torch
from torch import Tensor

from uap_lightning.errors import UapError
from uap_lightning.networks import TargetNetwork


class DeepFoolStep(NamedTuple):
    """What DeepFool found for one image.

    Attributes:
        step: the vector to add, 3 x H x W, in pixel units, overshoot included.
        iterations: how many linearisations it took.
    """

    step: Tensor
    iterations: int


def deepfool(
    network: TargetNetwork,
    image: Tensor,
    candidates: int = 10,
    overshoot: float = 0.02,
    max_iterations: int = 10,
) -> DeepFoolStep:
    """DeepFool in the l_2 norm (Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016, algorithm 2).

    Args:
        network: the target network.
        image: 3 x H x W, pixel units; not clamped on the way, as in the authors' code.
        candidates: classes considered, the most probable ones of the given image.
        overshoot: share by which the step is lengthened, to land beyond the boundary.
        max_iterations: linearisations before giving up.
    """
    total = torch.zeros_like(image)
    with torch.no_grad():
        logits = network(image[None])[0]
        classes = logits.topk(min(candidates, len(logits))).indices
    for iteration in range(max_iterations + 1):
        point = image + (1 + overshoot) * total
        logits, gradients = class_gradients(network, point, classes)
        if int(logits.argmax()) != int(classes[0]):
            return DeepFoolStep((1 + overshoot) * total, iteration)
        if iteration < max_iterations:
            total = total + boundary_step(logits[classes], gradients)
    return DeepFoolStep((1 + overshoot) * total, max_iterations)


def class_gradients(
    network: TargetNetwork, image: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits of one image and the gradients of some of them, in one backward pass.

    The image is repeated once for each class: the sum over copies of one logit each has the
    logits' gradients as its gradient.

    Returns:
        all logits, K, and gradients of the chosen ones, C x 3 x H x W.

    Raises:
        UapError: a gradient is not finite.
    """
    copies = image.expand(len(classes), *image.shape).clone().requires_grad_()
    logits = network(copies)
    chosen = logits.gather(1, classes[:, None]).sum()
    (gradients,) = torch.autograd.grad(chosen, copies)
    if not bool(gradients.isfinite().all()):
        raise UapError(
            f"DeepFool met a gradient that is not finite on the network {network.name}: check "
            "its weights and its normalisation."
        )
    return logits[0].detach(), gradients


def boundary_step(logits: Tensor, gradients: Tensor) -> Tensor:
    """The step to the nearest linearised boundary (equations 8 and 9 of the paper).

    Args:
        logits: of the candidate classes, the original one first: C.
        gradients: of these logits: C x 3 x H x W.

    Returns:
        3 x H x W.
    """
    w = gradients[1:] - gradients[:1]
    f = logits[1:] - logits[0]
    norms = w.flatten(1).norm(dim=1).clamp_min(torch.finfo(w.dtype).tiny)
    distances = f.abs() / norms
    # 1e-4 keeps the step from vanishing on the boundary itself.
    nearest = int(distances.argmin())
    step: Tensor = (distances[nearest] + 1e-4) * w[nearest] / norms[nearest]
    return step
