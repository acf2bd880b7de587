"""Networks with published weights: converted once, frozen, and told where weights are had."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision

from tests.networks.caffe.files import write_caffemodel, write_dagnn, write_simplenn
from tests.networks.caffe.networks import (
    LOADERS,
    SIDES,
    loaded,
    narrow,
    pixels,
    refused,
)
from tests.tiny import composed, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, read_tensors, write_tensors
from uap_lightning.jobs.config import build
from uap_lightning.networks.caffe import released_network
from uap_lightning.networks.caffe.caffenet import caffenet

SHARED = Path(__file__).resolve().parents[4] / "shared"


def test_googlenet_takes_other_sizes_and_the_others_say_what_they_take(tmp_path):
    assert loaded("googlenet_bvlc", narrow(tmp_path, "googlenet_bvlc")[1]).classes(160) == 1000
    with pytest.raises(UapError, match="caffenet does not take images of side 160"):
        loaded("caffenet", narrow(tmp_path)[1]).classes(160)


def test_converting_is_done_once_and_its_file_can_be_given(tmp_path, monkeypatch):
    _, path = narrow(tmp_path)
    cfg = typed_config("train", "network=caffenet", f"network.weights={path}", "paths.cache_dir=c")
    network = build(cfg.network)
    (converted,) = Path("c").glob("weights-caffenet-*.safetensors")
    metadata = read_tensors(converted)[1]
    assert metadata["source_sha256"] == digest_of_file(path)
    assert metadata["source"] == "w.caffemodel"
    monkeypatch.setitem(released_network._READERS, ".caffemodel", None)
    again = build(cfg.network)
    given = caffenet(str(converted), digest_of_file(converted))
    for other in (again, given):
        assert torch.equal(other(pixels()), network(pixels()))
    with pytest.raises(UapError, match="has SHA-256"):
        caffenet(str(path), "0" * 64)


def test_weights_of_another_layout_are_refused(tmp_path):
    """In our own format, with torchvision's names: another network, and its own GoogLeNet."""
    for model in (torchvision.models.squeezenet1_0(), torchvision.models.googlenet(init_weights=0)):
        write_tensors(tmp_path / "w.safetensors", dict(model.state_dict()), {})
        refused(
            "googlenet_bvlc", tmp_path / "w.safetensors", "does not hold weights of googlenet_b"
        )


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs weights of a shared folder")
def test_published_weights_of_another_network_are_refused():
    for name in ("squeezenet1_0_caffe", "mobilenetv2_100"):
        path = SHARED / "weights" / f"{name}.safetensors"
        refused(
            "googlenet_bvlc", path, rf"{name}\.safetensors does not hold weights of googlenet_b"
        )


@pytest.mark.parametrize("name", LOADERS)
def test_gradients_reach_the_pixels_and_the_network_stays_frozen(name, tmp_path):
    network = loaded(name, narrow(tmp_path, name)[1])
    network.train()
    x = pixels().requires_grad_()
    logits = network(x)
    (gradient,) = torch.autograd.grad(logits[0, 3], x)
    assert gradient.abs().sum() > 0
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.modules())
    step = 1e-2 * gradient / gradient.norm()
    change = float(network(x.detach() + step)[0, 3] - network(x.detach() - step)[0, 3])
    assert math.isclose(change, 2e-2 * float(gradient.norm()), rel_tol=0.05)


@pytest.mark.parametrize("name", LOADERS)
def test_without_weights_the_sentence_says_where_they_are(name):
    with pytest.raises(UapError, match=r"\.caffemodel.* set network\.weights=FILE"):
        build(composed("train", f"network={name}").network)


def test_truncated_files_are_told(tmp_path):
    layers, path = narrow(tmp_path)
    content = path.read_bytes()
    mats = [
        write_simplenn(tmp_path / "s.mat", layers, {}, sides=SIDES),
        write_simplenn(tmp_path / "o.mat", layers, {}, sides=SIDES, older=True),
        write_dagnn(tmp_path / "d.mat", layers, {}, sides=SIDES),
    ]
    for share in (0.999, 0.5, 0.001):
        path.write_bytes(content[: int(len(content) * share)])
        refused("caffenet", path, "is not a readable .caffemodel|has no weights of a layer")
    for mat in mats:
        content = mat.read_bytes()
        for share in (0.999, 0.5, 0.00002, 0):
            mat.write_bytes(content[: int(len(content) * share)])
            refused("caffenet", mat, r"is not a readable \.mat file|holds no layers of MatConvNet")


def test_files_of_another_kind_are_told(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"x")
    refused("caffenet", tmp_path / "w.pth", r"expected the suffix \.caffemodel, \.mat")
    refused("caffenet", tmp_path / "none.mat", "which is not a file")
    (tmp_path / "text.caffemodel").write_text("hello")
    refused("caffenet", tmp_path / "text.caffemodel", "is not a readable .caffemodel")
    scipy.io.savemat(tmp_path / "other.mat", {"r": np.zeros((2, 2)), "layers": np.zeros(3)})
    refused("caffenet", tmp_path / "other.mat", r"holds no layers of MatConvNet \(r, layers\)")
    # the header of MATLAB 7.3: version 2.0, little-endian
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    refused("caffenet", tmp_path / "new.mat", "is a MATLAB 7.3 file, which is HDF5")
    path = write_caffemodel(tmp_path / "short.caffemodel", {"conv1": [np.zeros((7, 9))]})
    path.write_bytes(path.read_bytes().replace(b"\x07\x09", b"\x07\x0a"))
    refused("caffenet", path, r"has 63 values in the layer conv1: expected \(7, 10\)")
