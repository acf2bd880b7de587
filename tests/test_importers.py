"""Published perturbations: every layout against arrays laid out by hand, and the real files."""

import argparse
import math
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, read_json, write_tensors
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations import __main__ as entry
from uap_lightning.perturbations import load_perturbation
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import open_bank, perturbations_of
from uap_lightning.perturbations.listing import table_of
from uap_lightning.perturbations.published import ORDERS, ORIENTATIONS, SOURCES, ArrayLayout
from uap_lightning.perturbations.published import read_published as read
from uap_lightning.perturbations.synthetic import extend, nearest

LINF = Ball(math.inf, 10.0)
PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "perturbations"


def truth(size=6, seed=0):
    """A perturbation as we keep it: 3 x H x W, RGB, pixel units, on the ball's surface."""
    rho = np.random.default_rng(seed).uniform(-10, 10, (3, size, size)).astype(np.float32)
    rho[0, 0, 0] = 10
    return rho


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


def call(*arguments):
    entry.run([str(argument) for argument in arguments])


CAFFENET = TargetNetwork(torch.nn.Identity(), "caffenet", [0.0] * 3, [1.0] * 3)
STATED = ("--network", "caffenet", "--norm", "linf", "--eps", 10)


def test_published_files_become_a_bank_and_arrays_again(tmp_path, capsys):
    for seed in range(3):
        array = stored(truth(16, seed), SOURCES["fff_npy"])
        np.save(tmp_path / f"{seed}.npy", array[None].astype(np.float32))
    bank, fff = tmp_path / "bank", ("--format", "fff_npy", *STATED)
    call("import", bank, tmp_path / "0.npy", tmp_path / "1.npy", *fff, "--part", "train")
    before = digest_of(read_json(bank / "bank.json", "a bank"))
    call("import", bank, tmp_path / "2.npy", *fff, "--part", "test")
    opened = open_bank(bank, CAFFENET, LINF, 16)
    assert opened.identity != before
    assert (len(opened.train), len(opened.test)) == (2, 1)
    np.testing.assert_array_equal(opened.test[0].numpy(), truth(16, 2))
    assert opened.records[2].attack["source"] == "fff_npy"
    assert opened.records[2].fooling_ratio is None

    capsys.readouterr()
    call("list", bank, "--extended", 4)
    shown = capsys.readouterr().out
    for said in ("train-0001", "test-0000", "synthetic-0001", "caffenet", "fff_npy", "linf 10"):
        assert said in shown
    call("export", bank, tmp_path / "arrays")
    np.testing.assert_array_equal(np.load(tmp_path / "arrays" / "train-0001.npy"), truth(16, 1))


def test_a_bank_of_imports_takes_only_what_fits(tmp_path):
    np.save(tmp_path / "a.npy", truth(8, 0))
    np.save(tmp_path / "b.npy", truth(8, 1))
    np.save(tmp_path / "c.npy", truth(10, 2))
    bank = tmp_path / "bank"
    own = ("--orientation", "chw", "--order", "rgb", "--part", "test")
    call("import", bank, tmp_path / "a.npy", *own, *STATED)
    with pytest.raises(UapError, match=r"a\.npy has a cosine of 1\.000 to another"):
        call("import", bank, tmp_path / "b.npy", tmp_path / "a.npy", *own, *STATED)
    assert list(perturbations_of(bank)) == ["test-0000"]
    with pytest.raises(UapError, match="sides of 8, 10 pixels"):
        call("import", bank, tmp_path / "c.npy", *own, *STATED)
    with pytest.raises(UapError, match="is a bank with network caffenet: expected vgg_f"):
        call("import", bank, tmp_path / "b.npy", *own, *STATED, "--network", "vgg_f")
    with pytest.raises(UapError, match="the layout of the files is not stated"):
        call("import", bank, tmp_path / "b.npy", "--part", "test", *STATED)
    call("import", bank, tmp_path / "a.npy", *own, *STATED, "--max-cosine", 1.01)
    assert len(perturbations_of(bank)) == 2
    with pytest.raises(UapError, match="no perturbations for training"):
        extend(open_bank(bank, CAFFENET, LINF, 8).train, LINF, 4, 0)


def test_a_number_that_was_removed_is_not_given_twice(tmp_path):
    own = ("--orientation", "chw", "--order", "rgb", "--part", "test")
    files = [tmp_path / f"{seed}.npy" for seed in range(4)]
    for seed, file in enumerate(files):
        np.save(file, truth(8, seed))
    bank = tmp_path / "bank"
    call("import", bank, *files[:3], *own, *STATED)
    kept = (bank / "test-0002.safetensors").read_bytes()
    (bank / "test-0001.safetensors").unlink()
    call("import", bank, files[3], *own, *STATED)
    assert (bank / "test-0002.safetensors").read_bytes() == kept
    assert list(perturbations_of(bank)) == ["test-0000", "test-0002", "test-0003"]
    assert set(read_json(bank / "bank.json", "a bank")["files"]) == set(perturbations_of(bank))
    with pytest.raises(UapError, match="--max-cosine is nan"):
        call("import", bank, files[1], *own, *STATED, "--max-cosine", "nan")
    with pytest.raises(UapError, match="holds 0 training perturbations"):
        call("list", bank, "--extended", 4)


def test_what_cannot_be_done_ends_in_one_sentence(tmp_path, monkeypatch, capsys):
    for verb in (["list"], ["export", "arrays"]):
        arguments = [verb[0], str(tmp_path / "none"), *verb[1:]]
        monkeypatch.setattr("sys.argv", ["perturbations", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        assert ended.value.code == 1
        assert "none holds no perturbations" in capsys.readouterr().err


def test_three_lines_add_one_perturbation_to_one_image(tmp_path, monkeypatch):
    np.save(tmp_path / "v.npy", truth(8))
    call(
        *("import", tmp_path / "banks" / "BANK", tmp_path / "v.npy", "--part", "test"),
        *("--orientation", "chw", "--order", "rgb", *STATED),
    )
    monkeypatch.chdir(tmp_path)
    from uap_lightning import perturbations

    lines = [line for line in perturbations.__doc__.splitlines() if line.startswith("    ")]
    assert len(lines) == 3
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    names = {"image": image}
    exec("\n".join(line.strip() for line in lines), names)
    expected = np.clip(image.numpy().astype(np.float32) + truth(8), 0, 255)
    np.testing.assert_allclose(names["perturbed"].numpy(), expected)
    assert names["record"].network == "caffenet"


def test_the_nearest_is_the_one_of_largest_absolute_cosine():
    made, crafted = torch.tensor(truth(5, 1))[None], torch.randn(4, 3, 5, 5)
    crafted[2] = -3 * made[0] + 0.1 * crafted[2]
    number, cosine = nearest(made, crafted)
    one, other = made.flatten().double(), crafted[2].flatten().double()
    assert int(number) == 2
    assert float(cosine) == pytest.approx(
        float(-(one @ other) / one.norm() / other.norm()), abs=1e-5
    )


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


def test_the_table_has_a_row_for_each(tmp_path):
    np.save(tmp_path / "v.npy", truth(8))
    call(
        *("import", tmp_path / "bank", tmp_path / "v.npy", "--part", "test"),
        *("--orientation", "chw", "--order", "rgb", *STATED),
    )
    (row,) = table_of(tmp_path / "bank")
    rho, _ = load_perturbation(str(tmp_path / "bank" / "test-0000.safetensors"))
    assert row["l2"] == f"{np.linalg.norm(truth(8)):.0f}"
    assert row["linf"] == f"{float(rho.abs().max()):.1f}"
    assert (row["nearest"], row["cosine"], row["seen"]) == ("", "", "unknown")
