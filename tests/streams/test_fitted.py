"""A whitener's file: what comes back, and what is refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.streams.fitted import load_whitener, save_whitener
from uap_lightning.streams.whitening import Whitener


@pytest.fixture(scope="module")
def whitener():
    return Whitener(64).fit(scenes(30))


def test_a_whitener_comes_back_to_the_last_bit(tmp_path, whitener):
    save_whitener(tmp_path / "w.safetensors", whitener)
    loaded = load_whitener(tmp_path / "w.safetensors", 64)
    images = scenes(3, seed=5)
    assert torch.equal(loaded(images), whitener(images))
    assert loaded.null == whitener.null


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("power", lambda t: t[:, :-1], "expected \\(3, 64, 33\\)"),
        ("power", lambda t: t.double(), "torch.float64 under power"),
        ("power", lambda t: t * 0, "above 0"),
        ("power", lambda t: t * float("nan"), "not finite"),
        ("power", lambda t: t * float("inf"), "not finite"),
        ("length", lambda t: -t, "above 0"),
        ("numbers", lambda t: t * float("inf"), "not finite"),
        ("numbers", None, "nothing under numbers"),
    ],
)
def test_what_no_photographs_have_is_refused(tmp_path, whitener, name, change, said):
    path = tmp_path / "w.safetensors"
    save_whitener(path, whitener)
    tensors = load_file(path)
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, path)
    with pytest.raises(UapError, match=said):
        load_whitener(path, 64)


def test_a_whitener_of_another_size_is_refused(tmp_path, whitener):
    save_whitener(tmp_path / "w.safetensors", whitener)
    with pytest.raises(UapError, match=r"photographs of side 80"):
        load_whitener(tmp_path / "w.safetensors", 80)
