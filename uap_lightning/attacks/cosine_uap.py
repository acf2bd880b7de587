"""The gradient UAP: momentum steps that turn the logits away from the clean ones."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from uap_lightning.attacks.descent import descend, draw_batches, random_start
from uap_lightning.attacks.reading import read_ahead
from uap_lightning.attacks.stopping import stopping
from uap_lightning.attacks.universal import Universal
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


def cosine_uap(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    steps: int = 90,
    batch_size: int = 8,
    step_size: float = 0.2,
    momentum: float = 0.9,
    stop_at: float | None = None,
    patience: int | None = None,
) -> Universal:
    """Turn the logits of random batches away from the clean ones (:func:`descend`).

    The loss is the mean cosine similarity of perturbed and clean logits (Cosine-UAP of Zhang et
    al., ICCV 2021), which no margin can satisfy early.

    Crafted on 128 photographs it fools 0.78 (l_inf) and 0.68 (l_2) of unseen photographs on
    EfficientNet-Lite0, 0.77 and 0.77 on SqueezeNet (docs/benchmarks.md).

    Args:
        network: the target network.
        images: crafting images.
        predictions: for stopping early alone: the clean logits say more than their largest.
        norm: the ball that rho lives in.
        seed: of the starting point and the batches.
        steps: gradient steps.
        batch_size: images a step.
        step_size: of the first step, as a share of the radius.
        momentum: of the gradient, from 0 to below 1.
        stop_at: fooling ratio on up to 64 crafting images that ends it; None: all steps are made.
        patience: looks (one in ten steps) without a higher one that end it; None: all are made.

    Raises:
        UapError: a setting is out of its range, or a gradient is not finite.
    """
    return turned_away(
        network,
        images,
        norm,
        seed,
        steps=steps,
        batch_size=batch_size,
        step_size=step_size,
        momentum=momentum,
        stop=stopping(network, images, predictions, stop_at, patience),
    )


def turned_away(
    network: TargetNetwork,
    images: Images,
    norm: Ball,
    seed: int,
    *,
    steps: int,
    batch_size: int,
    step_size: float,
    momentum: float,
    price: Callable[[Tensor], Tensor] | None = None,
    transformed: Callable[[Tensor], Tensor] | None = None,
    shown: Callable[[Tensor], Tensor] | None = None,
    tried: Callable[[Tensor], Tensor] | None = None,
    stop: Callable[[int, Tensor], bool] | None = None,
) -> Universal:
    """:func:`cosine_uap`, with a price on what perturbed images look like, or with what they meet.

    ``price`` makes a scalar of a batch of perturbed images, N x 3 x H x W, 0-255, which is added
    to the loss; ``transformed`` makes the images that the network sees of them. ``shown`` makes
    the clean images of a batch of photographs, ``tried`` the perturbation that is added to them.
    ``stop`` is that of :func:`descend`.
    """
    device = network.mean.device
    generator = torch.Generator().manual_seed(seed)
    start = random_start(images.take([0]).shape[1:], norm, generator)
    batches = draw_batches(len(images), steps, batch_size, generator)
    numbers_of_all = sorted({n for batch in batches for n in batch})
    clean = {} if shown else clean_logits(network, images, numbers_of_all)
    reading = read_ahead(images, batches, device)
    gradients = 0

    def loss(rho: Tensor, numbers: list[int]) -> Tensor:
        nonlocal gradients
        gradients += len(numbers)
        photographs = next(reading)
        if shown is None:
            unperturbed = torch.stack([clean[number] for number in numbers])
        else:
            photographs = shown(photographs)
            with torch.no_grad():
                unperturbed = network(photographs)
        perturbed = (photographs + (tried(rho) if tried else rho)).clamp(0, 255)
        seen = perturbed if transformed is None else transformed(perturbed)
        similarity = functional.cosine_similarity(network(seen), unperturbed).mean()
        return similarity if price is None else similarity + price(perturbed)

    rho = descend(
        loss,
        start,
        batches,
        network,
        norm,
        step_size=step_size,
        momentum=momentum,
        description="Crafting a gradient UAP",
        stop=stop,
    )
    return Universal(rho.cpu(), gradients / len(images))


@torch.no_grad()
def clean_logits(
    network: TargetNetwork, images: Images, numbers: list[int], batch_size: int = 64
) -> dict[int, Tensor]:
    """The logits of some clean images by number, each computed once."""
    found: dict[int, Tensor] = {}
    for start in range(0, len(numbers), batch_size):
        block = numbers[start : start + batch_size]
        logits = network(images.take(block).to(network.mean.device).float())
        found.update(zip(block, logits, strict=True))
    return found
