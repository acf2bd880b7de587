"""CaffeNet, VGG-F and BVLC's GoogLeNet: equal to Caffe's networks, from every kind of file."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.caffe_files import write_caffemodel, write_dagnn, write_simplenn
from tests.conftest import composed
from uap_lightning.check import check
from uap_lightning.config import build
from uap_lightning.errors import UapError
from uap_lightning.networks.caffenet import caffenet
from uap_lightning.networks.googlenet_bvlc import GoogLeNetBvlc, googlenet_bvlc
from uap_lightning.networks.vggf import vggf
from uap_lightning.storage import digest_of_file, read_tensors, write_tensors

PROTOTXT = Path("/work/shared/prototxt")
NARROW = 64
LOADERS = {"caffenet": caffenet, "vggf": vggf, "googlenet_bvlc": googlenet_bvlc}
DEFINITIONS = {
    "caffenet": "deploy_caffenet.prototxt",
    "vggf": "deploy_vgg_f.prototxt",
    "googlenet_bvlc": "deploy_googlenet.prototxt",
}
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
# size, k, alpha of one element, beta: MatConvNet's convention
NORMS = {
    "caffenet": dict.fromkeys(("conv1", "conv2"), [5, 1, 1e-4 / 5, 0.75]),
    "vggf": dict.fromkeys(("conv1", "conv2"), [5, 2, 5e-4 / 5, 0.75]),
    "googlenet_bvlc": dict.fromkeys(("conv1", "conv2"), [5, 1, 1e-4 / 5, 0.75]),
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


@pytest.fixture(scope="module", params=list(LOADERS))
def published(request, tmp_path_factory):
    """A network's name, its random layers, a .caffemodel of them, and its logits by OpenCV."""
    name = request.param
    if not PROTOTXT.is_dir():
        pytest.skip("needs the networks' definitions, which a shared folder holds")
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(1)
    folder = tmp_path_factory.mktemp(name)
    layers = random_layers(SHAPES[name])
    first_kind = name == "vggf"
    path = write_caffemodel(folder / "w.caffemodel", layers, first_kind=first_kind)
    definition = (PROTOTXT / DEFINITIONS[name]).read_text()
    definition = definition.replace("num_output: 4096", f"num_output: {NARROW}")
    for_judge = path
    if name == "vggf":
        # OpenCV reads no k: x / (2 + a)^b is 2^-b x / (1 + a / 2)^b, and conv2 and conv3 are linear
        definition = re.sub("alpha: 0.0005", "alpha: 0.00025", re.sub("k: 2", "", definition))
        halved = {
            layer: [weight * (2**-0.75 if layer in ("conv2", "conv3") else 1), bias]
            for layer, (weight, bias) in layers.items()
        }
        for_judge = write_caffemodel(folder / "judge.caffemodel", halved, first_kind=first_kind)
    narrow = folder / "deploy.prototxt"
    narrow.write_text(definition)
    judge = cv2.dnn.readNetFromCaffe(str(narrow), str(for_judge))
    blue_first = pixels()[:, [2, 1, 0]] - torch.tensor([104.0, 117.0, 123.0])[:, None, None]
    judge.setInput(blue_first.numpy())
    return name, layers, path, torch.from_numpy(judge.forward().reshape(1, -1))


def loaded(name, path):
    return LOADERS[name](str(path), cache_dir="cache")


def test_a_caffemodel_gives_the_logits_of_opencvs_importer(published):
    name, _, path, expected = published
    assert expected.std() > 1
    assert relative_error(loaded(name, path)(pixels()), expected) < 1e-3


@pytest.mark.parametrize(
    "kind", [{"first_kind": True, "shape": False}, {"double": True}, {"first_kind": False}]
)
def test_every_kind_of_caffemodel_gives_the_same_logits(published, kind, tmp_path):
    name, layers, _, expected = published
    path = write_caffemodel(tmp_path / "w.caffemodel", layers, **kind)
    assert relative_error(loaded(name, path)(pixels()), expected) < 1e-3


@pytest.mark.parametrize("form", ["simplenn", "older", "dagnn"])
def test_a_mat_of_matconvnet_gives_the_same_logits(published, form, tmp_path):
    name, layers, _, expected = published
    settings = {"sides": SIDES, "mean": np.array([[[123.0, 117.0, 104.0]]])}
    norms = NORMS[name]
    if name == "googlenet_bvlc":
        norms = {"conv1/7x7_s2": norms["conv1"], "conv2/3x3": norms["conv2"]}
    if form == "dagnn":
        path = write_dagnn(tmp_path / "w.mat", layers, norms, **settings)
    else:
        older = form == "older"
        path = write_simplenn(tmp_path / "w.mat", layers, norms, older=older, **settings)
    assert relative_error(loaded(name, path)(pixels()), expected) < 1e-3
