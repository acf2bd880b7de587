"""Published perturbations: every layout against arrays laid out by hand, and the real files."""

import argparse
import io
import math
import os
import pickle
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from tests.tiny import truth
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_tensors
from uap_lightning.networks.torchvision_classifier import torchvision_classifier
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.published import ORDERS, ORIENTATIONS, SOURCES, ArrayLayout
from uap_lightning.perturbations.published import read_published as read

LINF = Ball(math.inf, 10.0)
PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "perturbations"


def stored(rho, layout):
    """The same as a file of this layout holds it, pixel by pixel."""
    side = rho.shape[1]
    lengths = {"c": 3, "h": side, "w": side}
    array = np.zeros([lengths[axis] for axis in layout.orientation], dtype=np.float64)
    for c in range(3):
        for h in range(side):
            for w in range(side):
                at = {"c": 2 - c if layout.order == "bgr" else c, "h": h, "w": w}
                place = tuple(at[axis] for axis in layout.orientation)
                array[place] = rho[c, h, w] / layout.scale
    return array


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_every_layout_is_read(tmp_path, orientation, order, scale):
    layout = ArrayLayout(orientation, order, scale)
    np.save(tmp_path / "v.npy", stored(truth(), layout)[None])
    found = read(tmp_path / "v.npy", layout, LINF)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    np.testing.assert_allclose(found.numpy(), truth(), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(offset=st.integers(0, 3), size=st.integers(3, 6), seed=st.integers(0, 100))
def test_the_part_that_is_used_is_cut_out(tmp_path_factory, offset, size, seed):
    rho = np.full((3, 9, 9), 9.0)
    rho += np.random.default_rng(seed).uniform(-1, 1, rho.shape)
    path = tmp_path_factory.mktemp("cut") / "v.npy"
    np.save(path, rho)
    found = read(path, ArrayLayout("chw", "rgb", offset=offset, size=size), LINF)
    rows = slice(offset, offset + size)
    np.testing.assert_allclose(found.numpy(), rho[:, rows, rows].astype(np.float32))


def write_mat(path, array):
    scipy.io.savemat(path, {"r": array})


def write_h5(path, array):
    with h5py.File(path, "w") as file:
        file["r"] = array


def write_pth(path, array):
    settings = argparse.Namespace(epochs=3)
    torch.save({"state_dict": {"r": torch.tensor(array)}, "settings": settings}, path)


def write_safetensors(path, array):
    write_tensors(path, {"r": torch.tensor(array)}, {})


@pytest.mark.parametrize(
    ("name", "write", "key"),
    [
        ("v.mat", write_mat, "r"),
        ("v.mat", write_mat, None),
        ("v.h5", write_h5, "r"),
        ("v.h5", write_h5, None),
        ("checkpoint.pth.tar", write_pth, "state_dict.r"),
        ("v.safetensors", write_safetensors, "r"),
    ],
)
def test_every_kind_of_file_is_read(tmp_path, name, write, key):
    layout = ArrayLayout("hwc", "bgr", key=key)
    write(tmp_path / name, stored(truth(), layout))
    np.testing.assert_allclose(read(tmp_path / name, layout, LINF).numpy(), truth(), atol=1e-5)


def test_a_bare_tensor_of_the_old_torch_format_is_read(tmp_path):
    rho = torch.tensor(truth() / 255)
    torch.save(rho, tmp_path / "v.pth", _use_new_zipfile_serialization=False)
    found = read(tmp_path / "v.pth", SOURCES["sgd_uap_pth"], LINF)
    np.testing.assert_allclose(found.numpy(), truth(), atol=1e-5)


HWC = ArrayLayout("hwc", "rgb")


@pytest.mark.parametrize(
    ("array", "layout", "norm", "said"),
    [
        (np.zeros((3, 6, 6)), HWC, LINF, r"shape \(3, 6, 6\): expected three axes H x W x C"),
        (np.zeros((6, 3)), HWC, LINF, r"shape \(6, 3\)"),
        (np.zeros((2, 6, 6, 3)), HWC, LINF, r"shape \(2, 6, 6, 3\)"),
        (np.full((6, 5, 3), 10.0), HWC, LINF, "6 x 5 pixels: expected a square one"),
        (np.full((6, 6, 3), 10.0), ArrayLayout("hwc", "rgb", offset=2, size=5), LINF, "at least 7"),
        (np.full((6, 6, 3), 0.039), HWC, LINF, r"l_inf norm 0\.039 .* state the scale"),
        (np.full((6, 6, 3), 11.0), HWC, LINF, r"l_inf norm 11 .* expected up to 10"),
        (np.full((6, 6, 3), 10.0), HWC, Ball(2.0, 60.0), r"l_2 norm 103\.9.* up to 60"),
        (np.full((6, 6, 3), np.nan), HWC, LINF, "norm nan"),
        (np.full((6, 6, 3), 10), HWC, LINF, "int64: expected floating-point"),
        (np.zeros((0, 0, 3)), HWC, LINF, "0 x 0 pixels"),
    ],
)
def test_what_is_not_as_stated_is_refused(tmp_path, array, layout, norm, said):
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(UapError, match=said):
        read(tmp_path / "v.npy", layout, norm)


def test_whole_numbers_are_refused_from_torch_too(tmp_path):
    torch.save(torch.full((6, 6, 3), 10), tmp_path / "v.pth")
    with pytest.raises(UapError, match="int64: expected floating-point"):
        read(tmp_path / "v.pth", HWC, LINF)


def test_names_may_hold_dots_and_groups(tmp_path):
    array = truth()
    tensors = {"model.uap": torch.tensor(array), "model": {"v": torch.tensor(array) / 2}}
    torch.save(tensors, tmp_path / "v.pth")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["g/v"] = array
    for name, key, share in (
        ("v.pth", "model.uap", 1),
        ("v.pth", "model.v", 0.5),
        ("v.h5", "g.v", 1),
    ):
        found = read(tmp_path / name, ArrayLayout("chw", "rgb", key=key), LINF)
        np.testing.assert_allclose(found.numpy(), share * array, atol=1e-5)


def test_rounding_beyond_the_ball_is_brought_back(tmp_path):
    np.save(tmp_path / "v.npy", np.full((3, 4, 4), 10.0011))
    assert float(read(tmp_path / "v.npy", ArrayLayout("chw", "rgb"), LINF).max()) == 10


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "v.npy").write_bytes(b"no array")
    (tmp_path / "v.txt").write_text("1 2 3")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    write_mat(tmp_path / "two.mat", truth())
    scipy.io.savemat(tmp_path / "two.mat", {"r": truth(), "s": truth()})
    for name in ("v.npy", "v.txt", "o.npy", "missing.h5"):
        with pytest.raises(UapError, match=f"{re.escape(name)} cannot be read"):
            read(tmp_path / name, HWC, LINF)
    for key in (None, "v", "r.x"):
        with pytest.raises(UapError, match="state the key"):
            read(tmp_path / "two.mat", ArrayLayout("chw", "rgb", key=key), LINF)


def test_layouts_out_of_range_are_refused():
    for bad in (("hcw", "rgb"), ("hwc", "grb")):
        with pytest.raises(UapError, match="the layout is"):
            ArrayLayout(*bad)
    for setting in ({"scale": 0.0}, {"offset": -1}, {"size": 0}):
        with pytest.raises(UapError, match="the layout has"):
            ArrayLayout("hwc", "rgb", **setting)


def published():
    sources = {".mat": "lts4_mat", ".h5": "sfr_uap_h5", ".npy": "fff_npy"}
    return [(path, sources[path.suffix]) for path in sorted(PUBLISHED.rglob("*.*"))]


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
def test_the_published_files_are_read_and_are_different():
    found = {}
    for path, source in published():
        norm = Ball(2.0, 2000.0) if path.parent.name == "L_2" else LINF
        rho = read(path, SOURCES[source], norm)
        assert rho.shape == (3, 224, 224)
        assert float(norm.size(rho)) == pytest.approx(norm.eps, rel=1e-4)
        found[path.name] = rho.flatten().double()
    # by the table of the study: the same network's two have cosines of 0.05 to 0.15
    for network in ("caffenet", "vgg_f", "googlenet"):
        one, two = (found[f"{network}_adv_iter_{i}.h5"] for i in (1, 2))
        assert 0.04 < float(one @ two / one.norm() / two.norm()) < 0.16


def planes(r, g, b):
    return np.stack([r, g, b])


def pixels(r, g, b):
    return np.stack([r, g, b], axis=-1)


def framed(array, before, after):
    """Channels first, with a border that is not used."""
    return np.pad(array, [(0, 0), (before, after), (before, after)], constant_values=3.0)


# How each source's own program writes the planes of a perturbation, in its own units.
WRITTEN = {
    "lts4_mat": pixels,
    "lts4_npy": pixels,
    "sfr_uap_h5": lambda r, g, b: planes(b.T, g.T, r.T),
    "sfr_sfool_h5": lambda r, g, b: framed(planes(b, g, r), 1, 2),
    "sfr_spgd_h5": lambda r, g, b: planes(b, g, r),
    "sfr_gap_h5": lambda r, g, b: framed(planes(r, g, b) / 16, 30, 45),
    "fff_npy": lambda r, g, b: pixels(b, g, r),
    "fff_227_npy": lambda r, g, b: framed(planes(b, g, r), 1, 2).transpose(1, 2, 0),
    "gd_uap_npy": lambda r, g, b: pixels(b, g, r),
    "gd_uap_torch_npy": lambda r, g, b: planes(r, g, b) / 255,
    "nag_npy": pixels,
    "sgd_uap_pth": lambda r, g, b: planes(r, g, b) / 255,
    "uap_virtual_data_pth": lambda r, g, b: planes(r, g, b) / 255,
    "prn_npy": pixels,
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_read_as_it_is_written(tmp_path, source):
    rho, layout = truth(224).astype(np.float64), SOURCES[source]
    array = WRITTEN[source](*rho)
    if source.endswith("mat"):
        scipy.io.savemat(tmp_path / "v.mat", {"r": array})
    elif source.endswith("h5"):
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file["v"] = array
    elif source.endswith("pth"):
        uap = torch.tensor(array)
        torch.save({"state_dict": {"uap": uap}} if layout.key else uap, tmp_path / "v.pth")
    else:
        np.save(tmp_path / "v.npy", array[None])
    (path,) = tmp_path.iterdir()
    np.testing.assert_allclose(read(path, layout, LINF).numpy(), rho, atol=1e-5)


def claiming(path, shape):
    """A .npy file whose header claims a shape that its bytes do not fill."""
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(64))


def bomb(path):
    """A compressed archive of zeros under the name of an array."""
    content = io.BytesIO()
    np.savez_compressed(content, v=np.zeros(10**6))
    path.write_bytes(content.getvalue())


def unfilled(path):
    """An HDF5 array of petabytes that takes no room in the file."""
    with h5py.File(path, "w") as file:
        file.create_dataset("v", (10**7, 10**7, 3), chunks=(1000, 1000, 3), dtype="f8")


def of_itself(path):
    """An HDF5 group that holds itself."""
    with h5py.File(path, "w") as file:
        file["v"] = np.ones(3)
        file["more"] = file["/"]


def stretched(path):
    """A tensor of petabytes that repeats a single number."""
    torch.save(torch.ones(1).expand(3, 10**7, 10**7).detach(), path)


HOSTILE = {
    "objects.npy": lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
    "claims.npy": lambda path: claiming(path, (10**6, 10**6, 3)),
    "negative.npy": lambda path: claiming(path, (-1, 6, 3)),
    "bomb.npy": bomb,
    "zero.npy": lambda path: np.save(path, np.array(3.0)),
    "complex.npy": lambda path: np.save(path, np.ones((6, 6, 3)) * 1j),
    "nan.npy": lambda path: np.save(path, np.full((6, 6, 3), np.nan)),
    "inf.npy": lambda path: np.save(path, np.full((6, 6, 3), np.inf)),
    "text.npy": lambda path: np.save(path, np.array(["a"])),
    "directory.npy": lambda path: path.mkdir(),
    "pipe.npy": lambda path: os.mkfifo(path),
    "cells.mat": lambda path: scipy.io.savemat(path, {"r": np.array([[{}], [3]], dtype=object)}),
    "large.mat": lambda path: scipy.io.savemat(
        path, {"r": np.zeros((7000, 7200), np.uint8)}, do_compression=True
    ),
    "short.mat": lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200)),
    "unfilled.h5": unfilled,
    "of_itself.h5": of_itself,
    "text.h5": lambda path: h5py.File(path, "w").create_dataset("v", data="text"),
    "stretched.pth": stretched,
    "sparse.pth": lambda path: torch.save(torch.ones(3, 6, 6).to_sparse(), path),
    "meta.pth": lambda path: torch.save(torch.ones(3, 6, 6, device="meta"), path),
    "code.pth": lambda path: path.write_bytes(pickle.dumps(os.system)),
    "complex.pth": lambda path: torch.save(torch.ones(3, 6, 6) * 1j, path),
    "short.safetensors": lambda path: path.write_bytes(b"\xff" * 40),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_one_sentence(tmp_path, name):
    HOSTILE[name](tmp_path / name)
    with pytest.raises(UapError, match=re.escape(name)) as told:
        read(tmp_path / name, HWC, LINF)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


@pytest.fixture(scope="module")
def squeezenet():
    """SqueezeNet of Caffe, and photographs with the classes that it gives them."""
    weights = PUBLISHED.parent / "weights" / "squeezenet1_1.safetensors"
    network = torchvision_classifier(
        *("squeezenet1_1", str(weights)), mean=[104.0, 117.0, 123.0], std=[1.0] * 3, bgr=True
    )
    shown = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()]
    )
    files = sorted((PUBLISHED.parent / "imagenet-sample").glob("*.JPEG"))[::14]
    images = torch.stack([shown(Image.open(file).convert("RGB")) for file in files]).float()
    return network, images, network.predict(images)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
@pytest.mark.parametrize(
    ("path", "source", "turns"),
    [
        ("lts4/GoogLeNet.mat", "lts4_mat", ("bgr", "transposed", "flipped")),
        ("sfr/CaffeNet/caffenet_adv_iter_1.h5", "sfr_uap_h5", ("bgr", "transposed", "flipped")),
        ("fff/perturbation_googlenet_mean.npy", "fff_npy", ("bgr",)),
    ],
)
def test_a_published_perturbation_fools_most_as_it_is_read(squeezenet, path, source, turns):
    network, images, said = squeezenet
    rho = read(PUBLISHED / path, SOURCES[source], LINF)
    turned = {
        "bgr": rho.flip(0),
        "transposed": rho.transpose(1, 2),
        "flipped": rho.flip(1),
    }

    def harm(perturbation):
        """Mean cross-entropy to the clean classes: finer than how many are fooled."""
        with torch.no_grad():
            logits = network((images + perturbation).clamp(0, 255))
        return float(torch.nn.functional.cross_entropy(logits, said))

    reached = harm(rho)
    for turn in turns:
        assert harm(turned[turn]) < reached, turn
