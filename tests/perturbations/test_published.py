"""Published perturbations: every layout and kind of file against arrays laid out by hand."""

import argparse
import re

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.perturbations.stated import HWC, LINF
from tests.tiny import truth
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_tensors
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.published import ORDERS, ORIENTATIONS, SOURCES, ArrayLayout
from uap_lightning.perturbations.published import read_published as read


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
