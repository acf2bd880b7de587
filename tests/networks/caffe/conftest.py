"""What the tests of Caffe's networks share: OpenCV's logits, and little left on the disk."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.networks.caffe.files import write_caffemodel
from tests.networks.caffe.networks import LOADERS, NARROW, SHAPES, pixels, random_layers

PROTOTXT = Path(__file__).resolve().parents[4] / "shared" / "prototxt"


DEFINITIONS = {
    "caffenet": "deploy_caffenet.prototxt",
    "vggf": "deploy_vgg_f.prototxt",
    "googlenet_bvlc": "deploy_googlenet.prototxt",
}


@pytest.fixture(autouse=True)
def _little_left(tmp_path):
    """Weights are large, and pytest keeps the folders of three sessions."""
    yield
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()


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
    yield name, layers, path, torch.from_numpy(judge.forward().reshape(1, -1))
    shutil.rmtree(folder)
