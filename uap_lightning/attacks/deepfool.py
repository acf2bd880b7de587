"""DeepFool: the smallest step that takes an image over a linearised decision boundary."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.networks import TargetNetwork


class DeepFoolStep(NamedTuple):
    """What DeepFool found for each image of a batch.

    Attributes:
        step: the vectors to add, N x 3 x H x W, in pixel units, overshoot included.
        iterations: how many linearisations each took (int64, N).
    """

    step: Tensor
    iterations: Tensor


def deepfool(
    network: TargetNetwork,
    images: Tensor,
    candidates: int = 10,
    overshoot: float = 0.02,
    max_iterations: int = 10,
    numbers: Sequence[int] | None = None,
) -> DeepFoolStep:
    """DeepFool in the l_2 norm (Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016, algorithm 2).

    Each image of the batch is treated as if it were alone; it leaves the batch once its
    predicted class has changed.

    Args:
        network: the target network.
        images: N x 3 x H x W, pixel units; not clamped on the way, as in the authors' code.
        candidates: classes considered, the most probable ones of the given image.
        overshoot: share by which the step is lengthened, to land beyond the boundary.
        max_iterations: linearisations before giving up.
        numbers: of the images, for errors; their places in the batch when None.

    Raises:
        UapError: a logit or a gradient is not finite; the image and the linearisation are named.
    """
    total = torch.zeros_like(images)
    iterations = torch.full((len(images),), max_iterations, device=images.device)
    active = torch.arange(len(images), device=images.device)
    classes = torch.zeros(0)

    def check_finite(values: Tensor) -> None:
        finite = values.detach().flatten(1).isfinite().all(1)
        if not bool(finite.all()):
            place = int(active[int(finite.int().argmin())])
            raise UapError(
                f"the logits or the gradient of image {numbers[place] if numbers else place} are "
                f"not finite at linearisation {iteration + 1} of DeepFool on the network "
                f"{network.name}: check its weights and its normalisation."
            )

    for iteration in range(max_iterations + 1):
        points = (images[active] + (1 + overshoot) * total[active]).requires_grad_()
        logits = network(points)
        check_finite(logits)
        if iteration == 0:
            classes = logits.topk(min(candidates, logits.shape[1]), dim=1).indices
        unchanged = logits.argmax(1) == classes[active, 0]
        iterations[active[~unchanged]] = iteration
        active = active[unchanged]
        if iteration == max_iterations or not len(active):
            break
        if not bool(unchanged.all()):
            # One more forward pass of those left is cheaper than a backward pass of all.
            points = points.detach()[unchanged].requires_grad_()
            logits = network(points)
        differences, normals = boundaries(points, logits, classes[active])
        check_finite(normals)
        total[active] += boundary_step(differences, normals)
    return DeepFoolStep((1 + overshoot) * total, iterations)


def boundaries(
    points: Tensor, logits: Tensor, classes: Tensor, *, at_once: bool | None = None
) -> tuple[Tensor, Tensor]:
    """How far the other candidates are behind the first one, and the gradients of that.

    All gradients come from one forward pass. On a GPU one backward pass computes them together;
    on a CPU, where that is slower (1.5 times on SqueezeNet), one pass each, side by side.

    Args:
        points: N x 3 x H x W, which ``logits`` were computed from.
        logits: of the points, N x K, with their graph.
        classes: candidates, the predicted class first: N x C.
        at_once: compute the gradients together; on a GPU when None.

    Returns:
        f_k - f_0, N x (C - 1), and its gradients w_k, N x (C - 1) x 3 x H x W.
    """
    chosen = logits.gather(1, classes)
    if points.is_cuda if at_once is None else at_once:
        selectors = torch.eye(chosen.shape[1]).to(points)[:, None].expand(-1, len(points), -1)
        (gradients,) = torch.autograd.grad(chosen, points, selectors, is_grads_batched=True)
    else:
        gradient = partial(torch.autograd.grad, inputs=points, retain_graph=True)
        workers = side_by_side(torch.get_num_threads())
        found = workers.map(lambda logit: gradient(logit.sum())[0], chosen.unbind(1))
        gradients = torch.stack(list(found))
    # The gradients are subtracted, not the logits, as in the authors' code: to the last digit.
    normals = gradients[1:] - gradients[:1]
    return (chosen[:, 1:] - chosen[:, :1]).detach(), normals.transpose(0, 1)


@cache
def side_by_side(threads: int) -> ThreadPoolExecutor:
    """Threads that compute a gradient alone each.

    On two cores, two passes at once with one thread each take 0.6 of the time of one after the
    other with two threads each.
    """
    return ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1))


def boundary_step(differences: Tensor, normals: Tensor) -> Tensor:
    """The step to the nearest linearised boundary (equations 8 and 9 of the paper).

    Args:
        differences: f_k - f_0, N x (C - 1).
        normals: w_k, their gradients: N x (C - 1) x 3 x H x W.

    Returns:
        N x 3 x H x W.
    """
    norms = torch.linalg.vector_norm(normals.flatten(2), dim=2, dtype=torch.double)
    norms = norms.clamp_min(torch.finfo(normals.dtype).tiny)
    distances = differences.abs() / norms
    nearest = distances.argmin(1)
    rows = torch.arange(len(normals), device=normals.device)
    # 1e-4 keeps the step from vanishing on the boundary itself; without any gradient it is zero.
    lengths = (distances + 1e-4).clamp_max(torch.finfo(normals.dtype).max)
    length, norm = (
        values[rows, nearest].to(normals.dtype)[:, None, None, None] for values in (lengths, norms)
    )
    step: Tensor = length * normals[rows, nearest] / norm
    return step
