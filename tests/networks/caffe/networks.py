"""The networks of Caffe's time at random weights, narrow where they may be."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.networks.caffe.files import write_caffemodel
from uap_lightning.core.errors import UapError
from uap_lightning.networks.caffe.caffenet import caffenet
from uap_lightning.networks.caffe.googlenet_bvlc import GoogLeNetBvlc, googlenet_bvlc
from uap_lightning.networks.caffe.vggf import vggf

NARROW = 64


LOADERS = {"caffenet": caffenet, "vggf": vggf, "googlenet_bvlc": googlenet_bvlc}


CAFFENET = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (NARROW, 9216),
    "fc7": (NARROW, NARROW),
    "fc8": (1000, NARROW),
}


VGGF = CAFFENET | {
    "conv1": (64, 3, 11, 11),
    "conv2": (256, 64, 5, 5),
    "conv3": (256, 256, 3, 3),
    "conv4": (256, 256, 3, 3),
    "conv5": (256, 256, 3, 3),
}


# size, k, alpha of one element (Caffe's over the size), beta: MatConvNet's convention
NORM = {
    "caffenet": [5, 1, 1e-4 / 5, 0.75],
    "vggf": [5, 2, 5e-4 / 5, 0.75],
    "googlenet_bvlc": [5, 1, 1e-4 / 5, 0.75],
}


def bvlc_layers():
    """Shapes of GoogLeNet's layers by BVLC's names, in Caffe's order."""
    shapes = {}
    for key, tensor in GoogLeNetBvlc().state_dict().items():
        if not key.endswith(".weight"):
            continue
        module = key.removesuffix(".weight")
        stem = {"conv1": "conv1/7x7_s2", "conv2_reduce": "conv2/3x3_reduce"}
        stem |= {"conv2": "conv2/3x3", "fc": "loss3/classifier"}
        if module not in stem:
            name, branch = module.removeprefix("inception.").split(".")
            stem[module] = f"inception_{name}/{branch.removeprefix('conv')}"
        shapes[stem[module]] = tuple(tensor.shape)
    return shapes


def random_layers(shapes, seed=0):
    """Weights that keep the size of their inputs, and biases that matter."""
    generator = np.random.default_rng(seed)
    layers = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        weight = generator.standard_normal(shape, np.float32) * np.float32(scale)
        layers[name] = [weight, 20 * generator.standard_normal(shape[0], np.float32)]
    return layers


SHAPES = {"caffenet": CAFFENET, "vggf": VGGF, "googlenet_bvlc": bvlc_layers()}


SIDES = {"fc6": 6}


def pixels(size=224):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(3)) * 255


def relative_error(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def loaded(name, path):
    return LOADERS[name](str(path), cache_dir="cache")


def norms_of(name):
    layers = ("conv1/7x7_s2", "conv2/3x3") if name == "googlenet_bvlc" else ("conv1", "conv2")
    return dict.fromkeys(layers, NORM[name])


def narrow(tmp_path, name="caffenet", seed=0, **settings):
    layers = random_layers(SHAPES[name], seed)
    return layers, write_caffemodel(tmp_path / "w.caffemodel", layers, **settings)


def refused(name, path, said):
    with pytest.raises(UapError, match=said) as caught:
        loaded(name, path)
    message = str(caught.value)
    assert Path(path).name in message
    assert "\n" not in message
