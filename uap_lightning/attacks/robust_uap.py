"""The UAP that survives what happens to images on their way: JPEG, blur, shifts."""

import torch
from torch import Tensor

from uap_lightning.attacks.cosine_uap import turned_away
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball
from uap_lightning.rectifiers import JPEG, Gaussian


def robust_uap(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    shift: int = 8,
    blur: float = 1.5,
    quality: int = 50,
    steps: int = 90,
    batch_size: int = 8,
    step_size: float = 0.2,
    momentum: float = 0.9,
) -> Universal:
    """:func:`~uap_lightning.attacks.cosine_uap.cosine_uap` in expectation over transformations.

    In every step the perturbed images go through one of four, drawn at random: nothing, a shift
    by some pixels in each direction, Gaussian blur, JPEG. The gradient of JPEG is taken to be that
    of the identity (Robust Universal Adversarial Perturbations, ICML 2024, has the expectation).

    Args:
        network: the target network.
        images: crafting images.
        predictions: not used.
        norm: the ball that rho lives in.
        seed: of the starting point, the batches and the transformations.
        shift: largest shift in pixels, at least 0.
        blur: largest deviation of the blur in pixels, above 0 and at most 5.
        quality: lowest quality of JPEG, 1-95.
        steps: gradient steps.
        batch_size: images a step.
        step_size: of the first step, as a share of the radius.
        momentum: of the gradient, from 0 to below 1.

    Raises:
        UapError: a setting is out of its range, or a gradient is not finite.
    """
    if shift < 0 or not 0 < blur <= 5 or not 1 <= quality <= 95:
        raise UapError(
            f"attack has shift {shift}, blur {blur} and quality {quality}: expected a shift of at "
            "least 0, a blur above 0 and at most 5, and a quality from 1 to 95."
        )
    generator = torch.Generator().manual_seed(seed)

    def drawn(most: float) -> float:
        return most * float(torch.rand((), generator=generator))

    def transformed(perturbed: Tensor) -> Tensor:
        kind = int(torch.randint(4, (), generator=generator))
        if kind == 1:
            way = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
            moved: Tensor = perturbed.roll(way, (2, 3))
            return moved
        if kind == 2:
            softened: Tensor = Gaussian(max(0.1, drawn(blur)), radius=5)(perturbed)
            return softened
        if kind == 3:
            with torch.no_grad():
                saved: Tensor = JPEG(quality + round(drawn(95 - quality)))(perturbed)
            return perturbed + (saved - perturbed).detach()
        return perturbed

    return turned_away(
        network,
        images,
        norm,
        seed,
        steps=steps,
        batch_size=batch_size,
        step_size=step_size,
        momentum=momentum,
        transformed=transformed,
    )
