"""The data-free UAP: overexcite the layers of the network, looking at no photograph."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from uap_lightning.attacks.descent import descend, random_start
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.procedural import natural_noise

# Mean and spread of the pixels of photographs, RGB: what the priors know of data.
_MEAN = (123.7, 116.8, 103.9)
_SPREAD = 57.0


def data_free(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    steps: int = 100,
    batch_size: int = 1,
    step_size: float = 0.5,
    momentum: float = 0.9,
    prior: str = "natural",
    contrast: float = 10.0,
    depth: float = 0.7,
) -> Universal:
    """Excites the first layers on images that are no photographs, after GD-UAP (TPAMI 2019).

    Minimises -sum_i log ||l_i(x + rho)||_2 over layers i (Mopuri, Ganeshan, Babu, equation 3),
    where l_i is the activation that a convolution or linear layer receives (the first layer,
    which sees the image itself, is left out) and x is no photograph. The steps are those of
    :func:`descend`. Two things are not GD-UAP's: the last layers are left out, as TRM-UAP
    (ICCV 2023) does, and x is faint noise with the spectrum of photographs. Both keep the
    perturbation from fooling this very x alone. ``prior="none", depth=1.0`` is GD-UAP.

    How many unseen photographs it fools stands in docs/benchmarks.md.

    Args:
        network: the target network.
        images: only their size is used.
        predictions: not used.
        norm: the ball that rho lives in.
        seed: of the starting point and of the noise.
        steps: gradient steps.
        batch_size: noise images a step; one image is enough without noise.
        step_size: of the first step, as a share of the radius.
        momentum: of the gradient, from 0 to below 1.
        prior: what x is: ``natural`` for noise with the spectrum of photographs, ``none`` for
            their mean colour, ``range`` for Gaussian noise with their mean and spread (section
            3.3 of GD-UAP).
        contrast: deviation of ``natural`` noise in pixel units, at least 0.
        depth: share of the layers that are excited, the first ones; above 0 and at most 1.

    Raises:
        UapError: a setting is out of its range, the network has no such layers, or a gradient
            is not finite.
    """
    if prior not in ("natural", "none", "range") or batch_size < 1:
        raise UapError(
            f"attack has prior {prior} and batch_size {batch_size}: expected natural, none or "
            "range, and at least 1 image."
        )
    if not 0 <= contrast <= 255 or not 0 < depth <= 1:
        raise UapError(
            f"attack has contrast {contrast} and depth {depth}: expected a contrast from 0 to 255, "
            "and a share of the layers above 0 and at most 1."
        )
    device = network.mean.device
    generator = torch.Generator().manual_seed(seed)
    size = images.take([0]).shape[1:]
    start = random_start(size, norm, generator)
    mean = torch.tensor(_MEAN).view(1, 3, 1, 1).expand(1, *size)

    def quietness(rho: Tensor, numbers: list[int]) -> Tensor:
        background = mean
        if prior == "range":
            noise = torch.randn((batch_size, *size), generator=generator)
            background = mean + _SPREAD * noise
        elif prior == "natural":
            drawn = [natural_noise(size[-1], generator) for _ in range(batch_size)]
            background = mean + contrast * torch.stack(drawn)
        with received_activations(network) as activations:
            network((background.to(device) + rho).clamp(0, 255))
        excited = activations[: max(1, round(depth * len(activations)))]
        norms = [activation.flatten(1).norm(dim=1) for activation in excited]
        return -torch.stack(norms).clamp_min(1e-12).log().sum(0).mean()

    rho = descend(
        quietness,
        start,
        [[]] * steps,
        network,
        norm,
        step_size=step_size,
        momentum=momentum,
        description="Crafting a data-free UAP",
    )
    return Universal(rho.cpu(), 0.0)


@contextmanager
def received_activations(network: TargetNetwork) -> Iterator[list[Tensor]]:
    """Collect what each convolution and linear layer but the first receives.

    Taking what a layer receives, not what one gives, sees every non-linearity, also those that
    are functions and not modules.

    Raises:
        UapError: the network has fewer than two such layers.
    """
    layers = [m for m in network.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    if len(layers) < 2:
        raise UapError(
            f"attack=data_free needs convolution or linear layers to excite, and the network "
            f"{network.name} has {len(layers)}: choose another attack."
        )
    received: list[Tensor] = []

    def collect(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        received.append(inputs[0])

    hooks: list[RemovableHandle] = [
        layer.register_forward_pre_hook(collect) for layer in layers[1:]
    ]
    try:
        yield received
    finally:
        for hook in hooks:
            hook.remove()
