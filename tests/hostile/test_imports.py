"""Published perturbations that are none, and options that do not fit."""

import io
import zipfile

import numpy as np
import pytest
import scipy.io

from tests.hostile.files import WAYS, replace_file

OWN = ["--orientation", "chw", "--order", "rgb"]
KNOWN = ["--network", "tiny", "--norm", "linf", "--eps", "10", "--part", "train"]


def saved(array):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def header(shape, dtype="<f4"):
    """An .npy header that promises more than there is."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    padded = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode()


def zip_bomb():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("rho.npy", header("(3, 20000, 20000)") + b"\0" * (3 * 20_000 * 20_000 // 8))
    return content.getvalue()


ARRAYS = {
    **{"nan": np.full((3, 32, 32), np.nan, "f4"), "inf": np.full((3, 32, 32), np.inf, "f4")},
    **{"large": np.full((3, 32, 32), 200, "f4"), "whole": np.ones((3, 32, 32), "i8")},
    **{"object": np.array([print, {}], object), "text": np.array(["a", "b"])},
    **{
        "flat": np.ones(10, "f4"),
        "empty": np.ones((3, 0, 0), "f4"),
        "complex": np.ones((3, 4, 4), "c8"),
    },
    **{
        "oblong": np.ones((3, 32, 16), "f4"),
        "scalar": np.float32(1),
        "four": np.ones((4, 32, 32), "f4"),
    },
    **{"many": np.ones((2, 3, 3, 3, 32, 32), "f4"), "zeros": np.zeros((3, 32, 32), "f4")},
}
HEADERS = {
    **{"huge": "(3, 100000, 100000)", "more": "(3, 32, 32)", "negative": "(3, -1, -1)"},
    **{"astronomic": "(3, 10**9)", "text": "'abc'", "deep": "(" * 200},
}


@pytest.mark.parametrize("how", ARRAYS)
def test_an_array_that_is_no_perturbation(how, hostile, tmp_path):
    (tmp_path / "rho.npy").write_bytes(saved(ARRAYS[how]))
    hostile("perturbations.__main__", "import", "bank", "rho.npy", *OWN, *KNOWN)
    assert not list((tmp_path / "bank").glob("*.safetensors"))


@pytest.mark.parametrize("how", HEADERS)
def test_a_header_that_promises_more(how, hostile, tmp_path):
    (tmp_path / "rho.npy").write_bytes(header(HEADERS[how]))
    hostile("perturbations.__main__", "import", "bank", "rho.npy", *OWN, *KNOWN, memory=4 << 30)


@pytest.mark.parametrize("suffix", ["npy", "npz", "mat", "h5", "pt", "safetensors", "txt"])
@pytest.mark.parametrize("how", WAYS)
def test_a_file_that_holds_no_array(how, suffix, hostile, tmp_path):
    replace_file(tmp_path / f"rho.{suffix}", how)
    given = ["import", "bank", f"rho.{suffix}", *OWN, *KNOWN]
    hostile("perturbations.__main__", *given, memory=4 << 30)


def test_an_archive_that_unpacks_to_gigabytes(hostile, tmp_path):
    (tmp_path / "rho.npz").write_bytes(zip_bomb())
    given = ["import", "bank", "rho.npz", *OWN, *KNOWN]
    hostile("perturbations.__main__", *given, memory=4 << 30)


def test_a_matlab_file_without_the_key(hostile, tmp_path):
    scipy.io.savemat(tmp_path / "rho.mat", {"a": np.ones((3, 32, 32)), "b": np.ones(3)})
    hostile("perturbations.__main__", "import", "bank", "rho.mat", *OWN, *KNOWN)


OPTIONS = {
    "eps": ["0", "-1", "nan", "inf", "abc", "1e300", ""],
    "scale": ["0", "-1", "nan", "inf", "abc"],
    "offset": ["-1", "999", "abc", "1" + "0" * 30],
    "size": ["0", "-1", "999", "abc", "1" + "0" * 30],
    "key": ["", "a.b.c", "[red]", "\x1b[31m"],
    "max-cosine": ["nan", "abc"],
    "network": ["", "[red]x", "a/../../b", "n" * 300, "\x1b[31m", "\ud800"],
    "orientation": ["xyz"],
    "order": ["xyz"],
    "norm": ["l1"],
    "part": ["both"],
    "format": ["nope"],
}
# A name may be any.
FREE = ("network", "key")


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in OPTIONS.items() for v in vs])
def test_an_option_that_cannot_be(name, value, hostile, tmp_path):
    rho = np.random.default_rng(0).uniform(-10, 10, (3, 32, 32)).astype("f4")
    np.save(tmp_path / "rho.npy", rho)
    given = ["import", "bank", "rho.npy", *OWN, *KNOWN, f"--{name}={value}"]
    expect = "either" if name in FREE else "sentence"
    hostile("perturbations.__main__", *given, expect=expect)


@pytest.mark.parametrize("verb", ["list", "export"])
@pytest.mark.parametrize("bank", ["/nope", "/", "/dev/null", "n" * 300, "", ".", "[red]"])
def test_a_bank_that_is_none(bank, verb, hostile):
    hostile("perturbations.__main__", verb, bank, *(["arrays"] if verb == "export" else []))


@pytest.mark.parametrize("extended", ["0", "-1", "1", "abc", "1" + "0" * 23])
def test_a_number_of_synthetic_ones_that_cannot_be(extended, hostile, material):
    hostile("perturbations.__main__", "list", str(material / "bank"), f"--extended={extended}")


@pytest.mark.parametrize("seed", ["-1", "abc", "1" + "0" * 30])
def test_a_seed_that_cannot_be(seed, hostile, material):
    given = ["list", str(material / "bank"), "--extended=5", f"--seed={seed}"]
    hostile("perturbations.__main__", *given, expect="sentence")
