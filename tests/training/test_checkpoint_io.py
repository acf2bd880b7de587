"""Checkpoints that are whole or absent, also where the disk is full."""

import errno
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

from tests.tiny import QUICK_TRAIN, composed
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.train import train
from uap_lightning.training.checkpoint_io import AtomicCheckpointIO, own_checkpoint

CONTENT = {"hyper_parameters": {"train_network": "tiny"}, "state_dict": {"a": torch.arange(9.0)}}


def test_a_checkpoint_comes_back_and_is_written_beside_its_place(tmp_path, monkeypatch):
    # Where temporary files are kept, nothing can be written.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    found = AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
    assert torch.equal(found["state_dict"]["a"], torch.arange(9.0))
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, code):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UapError, match=r"last\.ckpt could not be written .*free some space"):
        AtomicCheckpointIO().save_checkpoint({}, path)
    assert path.read_bytes() == before
    assert own_checkpoint(path) == path


@pytest.mark.parametrize("content", [b"", b"half", "cut"])
def test_an_unreadable_checkpoint_of_ones_own_is_set_aside(tmp_path, caplog, content):
    path = tmp_path / "last.ckpt"
    assert own_checkpoint(path) is None
    if content == "cut":
        AtomicCheckpointIO().save_checkpoint(CONTENT, path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    assert own_checkpoint(path) is None
    assert not path.exists()
    assert (tmp_path / "last.ckpt.unreadable").read_bytes() == content
    assert caplog.text.count("last.ckpt.unreadable: training begins anew") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_training_onto_a_full_disk_leaves_nothing_half_and_goes_on_with_space(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    words = (*QUICK_TRAIN, f"callbacks.checkpoint.dirpath={disk}", "accelerator=cpu")
    # On the disk there is no room for a checkpoint of a rectifier with two moments a weight.
    try:
        with pytest.raises(UapError, match=r"last\.ckpt could not be written .*No space left"):
            train(composed("train", *words, "callbacks.checkpoint.train_time_interval.seconds=0"))
        assert not list(disk.iterdir())
        grown = ["mount", "-o", "remount,size=64m", str(disk)]
        subprocess.run(grown, check=True)
        assert train(composed("train", *words)) is not None
        assert Path("outputs/run/defense/defense.json").is_file()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
