"""Files that are whole or absent."""

import errno
import json
import os

import pytest
import torch

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import (
    digest_of_file,
    locked,
    make_folder,
    read_json,
    read_tensors,
    write_atomically,
    write_json,
    write_tensors,
)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UapError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UapError, match="cannot be created"):
        make_folder(tmp_path / "file" / "below")
    with pytest.raises(UapError, match="file cannot be created"):
        write_json(tmp_path / "file" / "x", {})


def test_tensors_come_back_with_their_metadata(tmp_path):
    tensor = torch.arange(12.0).reshape(3, 4).T
    write_tensors(tmp_path / "t.safetensors", {"a": tensor}, {"note": "é"})
    tensors, metadata = read_tensors(tmp_path / "t.safetensors")
    assert torch.equal(tensors["a"], tensor)
    assert metadata == {"note": "é"}


def test_a_module_without_tensors_is_written_and_read(tmp_path):
    write_tensors(tmp_path / "t.safetensors", {}, {})
    assert read_tensors(tmp_path / "t.safetensors") == ({}, {})


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.zeros(100)}, {})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UapError, match=r"t\.safetensors is not a readable"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("{", "not valid JSON"), ("[1]", "holds a list")],
)
def test_json_that_is_not_an_object_is_refused(tmp_path, content, said):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UapError, match=said):
        read_json(path, "an object")


def test_infinity_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("inf")})
    write_json(tmp_path / "x.json", {"a": 1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_a_lock_is_held_once(tmp_path):
    path = tmp_path / "sub" / ".lock"
    with locked(path, wait=False) as first:
        assert first
        with locked(path, wait=False) as second:
            assert not second
    with locked(path, wait=True) as third:
        assert third


def test_the_digest_of_a_missing_file_names_it(tmp_path):
    with pytest.raises(UapError, match="missing cannot be read"):
        digest_of_file(tmp_path / "missing")
