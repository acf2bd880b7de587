"""What a published file of weights carries, and how it becomes a state dict."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uap_lightning.core.errors import UapError
from uap_lightning.networks.caffe.normalisation import AcrossChannels

Array = NDArray[np.float32]

# Caffe's reference mean, pixel units, blue first.
MEAN = (104.0, 117.0, 123.0)
SIZE = 224

_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Release:
    """A file of weights as it was read.

    Attributes:
        layers: for every layer with weights its weight (output x input / groups x height x width
            or output x input) and its bias.
        order: the names of all layers, in the file's order.
        norms: size, k, alpha of one element (Caffe's alpha / size) and beta of every
            normalisation across channels that the file describes.
        mean: 3, or 3 x height x width, pixel units; None where the file has none.
        classes: name of every class, where the file has them.
        rgb: the first layer and the mean have red first.
    """

    layers: dict[str, list[Array]]
    order: list[str]
    norms: dict[str, list[float]] = field(default_factory=dict)
    mean: Array | None = None
    classes: list[str] = field(default_factory=list)
    rgb: bool = False


@dataclass(frozen=True)
class CaffeLayout:
    """How a network is found in files.

    Attributes:
        name: of the network.
        namings: the names that files give to its modules with weights, from the first module to
            the classifier; a file keeps to one of them.
        build: the network, from the number of outputs of each module.
        published: where weights are published, for an error's sentence.
        in_order: layers whose order tells the network from another one of the same shapes.
    """

    name: str
    namings: tuple[dict[str, str], ...]
    build: Callable[[dict[str, int]], nn.Module]
    published: str
    in_order: tuple[str, ...] = ()


def state_of(release: Release, layout: CaffeLayout, path: Path) -> dict[str, Tensor]:
    """The state dict of the network, blue first, and its ``mean``.

    A mean image is cropped to its centre. Classes that are named by WordNet id are brought into
    the order of their ids, which is ImageNet's class order everywhere else.

    Raises:
        UapError: the file belongs to another network; the layer is named.
    """
    naming, found = _find(release, layout, path)
    with torch.device("meta"):
        model = layout.build({module: arrays[1].size for module, arrays in found.items()})
    _check_norms(release, model, layout, path)
    state: dict[str, Array] = {}
    for module, arrays in found.items():
        for kind, array in zip(("weight", "bias"), arrays, strict=True):
            shape = tuple(model.get_parameter(f"{module}.{kind}").shape)
            if not _fits(array, shape):
                said = f"has a {kind} of {array.shape} in its layer {naming[module]}, not {shape}"
                raise _other_network(path, layout, said)
            state[f"{module}.{kind}"] = array.reshape(shape)
    first, *_, classifier = naming
    if release.rgb:
        state[f"{first}.weight"] = state[f"{first}.weight"][:, ::-1]
    names = release.classes
    if len(names) == len(state[f"{classifier}.bias"]) and all(map(_WNID.fullmatch, names)):
        for kind in ("weight", "bias"):
            state[f"{classifier}.{kind}"] = state[f"{classifier}.{kind}"][np.argsort(names)]
    state["mean"] = _mean(release, path)
    return {key: torch.from_numpy(np.array(array, order="C")) for key, array in state.items()}


def _find(
    release: Release, layout: CaffeLayout, path: Path
) -> tuple[dict[str, str], dict[str, list[Array]]]:
    """The naming that the file keeps to, and the weight and the bias of every module."""
    held = {_plain(name): arrays for name, arrays in release.layers.items()}
    naming = max(layout.namings, key=lambda n: sum(_plain(layer) in held for layer in n.values()))
    for layer in naming.values():
        if _plain(layer) not in held:
            raise _other_network(path, layout, f"has no weights of a layer {layer}")
        if (count := len(held[_plain(layer)])) != 2:
            raise _other_network(path, layout, f"has {count} arrays in its layer {layer}, not 2")
    order = [name for name in release.order if name in layout.in_order]
    if order != [name for name in layout.in_order if name in order]:
        raise _other_network(path, layout, f"has {order[0]} before {order[1]}")
    return naming, {module: held[_plain(layer)] for module, layer in naming.items()}


def _check_norms(release: Release, model: nn.Module, layout: CaffeLayout, path: Path) -> None:
    """That the file's normalisations are the network's; files have alpha of one element."""
    own = next(module for module in model.modules() if isinstance(module, AcrossChannels))
    expected = [own.size, own.k, own.alpha / own.size, own.beta]
    for layer, norm in release.norms.items():
        if len(norm) != 4 or not np.allclose(norm, expected, rtol=1e-3, atol=0):
            said = f"normalises by {norm} in its layer {layer}, not by {expected}"
            raise _other_network(path, layout, said)


def _fits(array: Array, shape: tuple[int, ...]) -> bool:
    """Whether only sides of 1 tell the shapes apart, or an inner product is kept as filters."""
    given = [side for side in array.shape if side != 1]
    if len(shape) == 2 and len(given) == 4:
        given = [given[0], math.prod(given[1:])]
    return given == [side for side in shape if side != 1]


def _mean(release: Release, path: Path) -> Array:
    if release.mean is None:
        return np.array(MEAN, np.float32)
    mean = release.mean[::-1] if release.rgb else release.mean
    if mean.ndim == 1:
        return mean
    top, left = (mean.shape[1] - SIZE) // 2, (mean.shape[2] - SIZE) // 2
    if min(top, left) < 0:
        raise UapError(
            f"{path} has a mean image of {mean.shape[1]} x {mean.shape[2]}: expected at least "
            f"{SIZE} x {SIZE}; put a whole copy in its place."
        )
    return mean[:, top : top + SIZE, left : left + SIZE]


def _plain(name: str) -> str:
    """A name without the characters that conversions have replaced, such as the slash."""
    return re.sub(r"\W", "_", name)


def _other_network(path: Path, layout: CaffeLayout, said: str) -> UapError:
    return UapError(
        f"{path} does not hold weights of {layout.name}: it {said}; give the weights of this "
        "network, or choose the network that they belong to."
    )
