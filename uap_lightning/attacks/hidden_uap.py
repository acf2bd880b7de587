"""The attacker who knows the guard with memory: a UAP that leaves little to be compared."""

from torch import Tensor

from uap_lightning.attacks.cosine_uap import turned_away
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball
from uap_lightning.streams.whitening import MOST, Whitener


def hidden_uap(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    weight: float = 1.0,
    steps: int = 90,
    batch_size: int = 8,
    step_size: float = 0.2,
    momentum: float = 0.9,
) -> Universal:
    """:func:`~uap_lightning.attacks.cosine_uap.cosine_uap`, hidden from the guard with memory.

    To its loss is added ``weight`` times the mean cosine between the whitened residuals of the
    perturbed images of a batch, which is what
    :class:`~uap_lightning.streams.discovery.Discovery` looks at. The attacker is given the whole
    whitener, fitted on his own images.

    Args:
        network: the target network.
        images: crafting images, at least 12, of a side of at least 64 pixels.
        predictions: not used.
        norm: the ball that rho lives in.
        seed: of the starting point and the batches.
        weight: of being hidden against fooling; 0 is ``cosine_uap``.
        steps: gradient steps.
        batch_size: images a step, at least 2.
        step_size: of the first step, as a share of the radius.
        momentum: of the gradient, from 0 to below 1.

    Raises:
        UapError: a setting is out of its range, the images are too few or too small, or a
            gradient is not finite.
    """
    if weight < 0 or batch_size < 2:
        raise UapError(
            f"attack has weight {weight} and batch_size {batch_size}: expected a weight of at "
            "least 0, and at least 2 images to compare."
        )
    shown = images.take(list(range(min(MOST, len(images)))))
    whitener = Whitener(shown.shape[-1]).fit(shown).to(network.mean.device)

    def likeness(perturbed: Tensor) -> Tensor:
        residuals = whitener(perturbed)
        cosines = residuals @ residuals.T
        pairs = len(perturbed) * (len(perturbed) - 1)
        mean: Tensor = (cosines.sum() - cosines.diagonal().sum()) / pairs
        return weight * mean

    return turned_away(
        network,
        images,
        norm,
        seed,
        steps=steps,
        batch_size=batch_size,
        step_size=step_size,
        momentum=momentum,
        price=likeness,
    )
