"""What the early layers of a network see in an image: a loss between pixels and classes."""

import math
from collections import Counter
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from uap_lightning.core.errors import UapError

# Sides of the maps that are compared, as powers of two that divide the image's.
_STAGES = (1, 2, 3)
# A map that hardly varies counts no more than one with this share of the mean deviation.
_LEAST = 1e-3


class _EnoughSeen(Exception):
    """Ends a forward pass whose further layers nobody asks for."""


@torch.no_grad()
def early_layers(network: nn.Module, size: int) -> list[nn.Module]:
    """The last convolutions whose maps have a half, a quarter and an eighth of an image's side.

    Those of one stage of a network mostly see what the ones before them have seen; of branches side
    by side, as in GoogLeNet, the one that is run last stands for all. Deeper layers know classes
    more than textures, and cost most of the network's time. A convolution that is run several times
    is left out.

    Args:
        network: N x 3 x size x size to logits, on the processor or a device.
        size: side of the images.

    Returns:
        one to three modules in the order in which they are run.

    Raises:
        UapError: there is none.
    """
    run: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, _: object, maps: Tensor) -> None:
        run.append((module, round(math.log2(size / maps.shape[-1]))))

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    try:
        tensors = chain(network.parameters(), network.buffers())
        device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        network(torch.full((1, 3, size, size), 127.5, device=device))
    finally:
        _remove(hooks)
    times = Counter(module for module, _ in run)
    last = {stage: place for place, (module, stage) in enumerate(run) if times[module] == 1}
    layers = [run[place][0] for place in sorted(last[stage] for stage in _STAGES if stage in last)]
    if not layers:
        raise UapError(
            "rectifier.training.loss.features is above 0 and the network has no convolution whose "
            f"maps have a half, a quarter or an eighth of the side of {size} pixels: expected one; "
            "set features to 0, or leave the network out of matched_networks."
        )
    return layers


def features(network: nn.Module, layers: list[nn.Module], images: Tensor) -> list[Tensor]:
    """What convolutions return for images: N x C x h x w each; what comes after is not computed.

    Args:
        network: that the layers are of.
        layers: of :func:`early_layers`.
        images: float N x 3 x H x W, 0-255.
    """
    seen: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _: object, maps: Tensor) -> None:
        seen[module] = maps.clone()  # an activation behind it may write over it
        if len(seen) == len(layers):
            raise _EnoughSeen

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        network(images)
    except _EnoughSeen:
        pass
    finally:
        _remove(hooks)
    return [seen[layer] for layer in layers]


def feature_distance(
    network: nn.Module, layers: list[nn.Module], rectified: Tensor, clean: Tensor
) -> Tensor:
    """How differently a network's early layers see rectified and clean images.

    The mean of |f(R(I_rho)) - f(I)| over the places, maps and layers, each map in units of its
    standard deviation on the clean images. Johnson, Alahi and Fei-Fei (ECCV 2016) compare layers of
    one network so; here it is the defended one, and its layers see perturbations as it does.

    Args:
        network: that the layers are of.
        layers: of :func:`early_layers`.
        rectified: N x 3 x H x W.
        clean: the same images, clean.
    """
    with torch.no_grad():
        aims = features(network, layers, clean)
    distances = []
    for aim, found in zip(aims, features(network, layers, rectified), strict=True):
        aim = aim.float()
        deviation = _deviation(aim)
        deviation = deviation.clamp_min(_LEAST * deviation.mean() + _LEAST)
        distance = (found.float() - aim).abs().mean((0, 2, 3))
        distances.append((distance / deviation).mean())
    return torch.stack(distances).mean()


def _deviation(maps: Tensor) -> Tensor:
    """The standard deviation of each map (N x C x H x W to C), as a norm.

    PyTorch's own takes four times as long on maps that lie pixel by pixel in memory.
    """
    centred = maps - maps.mean((0, 2, 3), keepdim=True)
    count = maps.numel() / maps.shape[1]
    length: Tensor = torch.linalg.vector_norm(centred, dim=(0, 2, 3))
    return length / math.sqrt(count)


def _remove(hooks: list[RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()
