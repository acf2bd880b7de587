"""The universal adversarial perturbation of Moosavi-Dezfooli et al. (CVPR 2017)."""

import math

import torch
from torch import Tensor

from uap_lightning.attacks.deepfool import deepfool
from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import progress_bar
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


def deepfool_uap(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    goal: float = 0.8,
    max_passes: int = 10,
    candidates: int = 10,
    overshoot: float = 0.02,
    max_iterations: int = 10,
    batch_size: int = 64,
) -> Universal:
    """Algorithm 1 of the paper, with the settings of the authors' code (LTS4).

    Image by image, the smallest step that sends I + rho over the decision boundary is added to
    rho, and rho is projected back onto the ball. Images that rho already fools are skipped;
    they are found in batches, which changes nothing in the result. A step counts only when
    DeepFool converged in fewer than ``max_iterations`` - 1 linearisations.

    Crafted on 64 photographs it fools 0.05 (l_inf) and 0.06 (l_2) of unseen photographs on
    EfficientNet-Lite0, 0.07 and 0.07 on SqueezeNet (docs/benchmarks.md).

    Args:
        network: the target network.
        images: crafting images; they are shuffled anew for every pass.
        predictions: the network's own predictions on them, N.
        norm: the ball that rho lives in.
        seed: of the order of the images.
        goal: fooling ratio on the crafting images at which crafting stops.
        max_passes: passes over the images at most.
        candidates: classes that DeepFool considers.
        overshoot: of DeepFool.
        max_iterations: of DeepFool; with less than 3 no step would count.
        batch_size: images screened in one forward pass at most.

    Raises:
        UapError: a setting is out of its range, or a gradient is not finite.
    """
    check_settings(goal, max_passes, candidates, overshoot, max_iterations, batch_size, fewest=3)
    # The network's own precision: in double, the result can be compared to the last digits.
    rho = torch.zeros(images.take([0]).shape[1:]).to(network.mean)
    generator = torch.Generator().manual_seed(seed)
    passes = 0
    for passes in range(1, max_passes + 1):
        order = torch.randperm(len(images), generator=generator).tolist()
        with progress_bar() as bar:
            task = bar.add_task(f"DeepFool UAP, pass {passes}", total=len(order))
            position, ahead = 0, 1
            while position < len(order):
                numbers = order[position : position + ahead]
                block = images.take(numbers).to(network.mean)
                unfooled = network.predict(block + rho) == predictions[numbers].to(block.device)
                if bool(unfooled.any()):
                    first = int(unfooled.int().argmax())
                    point = block[first : first + 1] + rho
                    found = deepfool(
                        network, point, candidates, overshoot, max_iterations, numbers[first:]
                    )
                    if int(found.iterations[0]) < max_iterations - 1:
                        rho = norm.project(rho + found.step[0])
                    # Look as far ahead as the last fooled images went.
                    seen = ahead = first + 1
                else:
                    seen = len(numbers)
                    ahead = min(2 * ahead, batch_size)
                position += seen
                bar.advance(task, seen)
        if fooling_ratio(network, images, predictions, rho, batch_size) >= goal:
            break
    return Universal(rho.float().cpu(), passes)


def check_settings(
    goal: float,
    max_passes: int,
    candidates: int,
    overshoot: float,
    max_iterations: int,
    batch_size: int,
    *,
    fewest: int = 1,
) -> None:
    """Refuse settings of a DeepFool UAP that are out of their range.

    Args:
        goal: see :func:`deepfool_uap`, as the others.
        max_passes: over the images.
        candidates: classes.
        overshoot: of DeepFool.
        max_iterations: of DeepFool.
        batch_size: images.
        fewest: iterations that the attack can do with.

    Raises:
        UapError: they are told.
    """
    if (
        not 0 < goal <= 1
        or not 0 <= overshoot < math.inf
        or candidates < 2
        or max_iterations < fewest
        or min(max_passes, batch_size) < 1
    ):
        raise UapError(
            f"attack has goal {goal}, max_passes {max_passes}, candidates {candidates}, overshoot "
            f"{overshoot}, max_iterations {max_iterations}, batch_size {batch_size}: expected a "
            "goal above 0 and at most 1, an overshoot of 0 or more, at least 2 candidates, "
            f"at least {fewest} iterations, and counts of at least 1."
        )
