"""How strongly an image excites the layers of a network: what data-free attacks raise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from uap_lightning.core.errors import UapError
from uap_lightning.networks import TargetNetwork

_LEAST = 1e-12


def received_length(network: TargetNetwork, images: Tensor, depth: float) -> Tensor:
    """Of each image, sum_i log ||l_i||_2, where layer i receives l_i (GD-UAP, TPAMI 2019).

    Args:
        network: that is excited.
        images: N x 3 x H x W, 0-255.
        depth: share of the layers that count, the first ones.
    """
    with received_activations(network) as activations:
        network(images)
    lengths = [_length(activation) for activation in _first(activations, depth)]
    return torch.stack(lengths).log().sum(0)


def positive_ratio(network: TargetNetwork, images: Tensor, depth: float) -> Tensor:
    """Of each image, sum_i log(||a_i^+||_2 / ||a_i^-||_2) of what layer i returns, a_i.

    a^+ holds its values above 0 and a^- those below, of which a ReLU behind it passes on the first
    alone (after TRM-UAP, ICCV 2023). Where a normalisation lies between the two, a_i is what comes
    before it. Arguments as of :func:`received_length`.
    """
    with returned_activations(network) as activations:
        network(images)
    ratios = [
        _length(values.clamp_min(0)) / _length(values.clamp_max(0))
        for values in _first(activations, depth)
    ]
    return torch.stack(ratios).log().sum(0)


EXCITATIONS: MappingProxyType[str, Callable[[TargetNetwork, Tensor, float], Tensor]] = (
    MappingProxyType({"length": received_length, "ratio": positive_ratio})
)


@contextmanager
def received_activations(network: TargetNetwork) -> Iterator[list[Tensor]]:
    """Collect what each convolution and linear layer but the first receives.

    Taking what a layer receives, not what one gives, sees every non-linearity, also those that
    are functions and not modules. The first layer receives the image itself.

    Raises:
        UapError: the network has fewer than two such layers.
    """
    received: list[Tensor] = []

    def collect(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        received.append(inputs[0])

    layers = _layers(network)[1:]
    hooks: list[RemovableHandle] = [layer.register_forward_pre_hook(collect) for layer in layers]
    try:
        yield received
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def returned_activations(network: TargetNetwork) -> Iterator[list[Tensor]]:
    """Collect what each convolution and linear layer returns, before any activation function.

    Raises:
        UapError: the network has fewer than two such layers.
    """
    returned: list[Tensor] = []

    def collect(layer: nn.Module, inputs: tuple[Tensor, ...], values: Tensor) -> None:
        returned.append(values.clone())  # an activation behind it may write over it

    hooks: list[RemovableHandle] = [
        layer.register_forward_hook(collect) for layer in _layers(network)
    ]
    try:
        yield returned
    finally:
        for hook in hooks:
            hook.remove()


def _layers(network: TargetNetwork) -> list[nn.Module]:
    """Its convolutions and linear layers, of which there are two at least."""
    kinds = (nn.Conv2d, nn.Linear)
    layers: list[nn.Module] = [m for m in network.model.modules() if isinstance(m, kinds)]
    if len(layers) < 2:
        raise UapError(
            f"attack=data_free needs convolution or linear layers to excite, and the network "
            f"{network.name} has {len(layers)}: choose another attack."
        )
    return layers


def _first(activations: list[Tensor], depth: float) -> list[Tensor]:
    return activations[: max(1, round(depth * len(activations)))]


def _length(values: Tensor) -> Tensor:
    """The length of each image's values, N, never 0."""
    length: Tensor = values.flatten(1).norm(dim=1)
    return length.clamp_min(_LEAST)
