"""A folder of patterns that processes share, and what others may put into it."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.record import load_perturbation
from uap_lightning.streams.store import PatternStore, name_for


@pytest.fixture
def store(tmp_path):
    return PatternStore(tmp_path / "store", 64)


def rho(seed=0, size=64):
    return torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed)) * 5


def test_what_one_adds_another_reads_and_it_is_a_perturbation_file(store):
    assert store.known() == []
    path = store.add(rho(), "one", "tiny", {"images": 8, "changed": 0.5})
    [known] = PatternStore(store.folder, 64).known()
    assert known.name == "one"
    assert torch.equal(known.pattern, rho())
    assert known.record.attack == {"name": "found", "images": 8, "changed": 0.5}
    assert torch.equal(load_perturbation(path)[0], rho())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["record"])["linf"] == pytest.approx(
            float(rho().abs().max())
        )


def test_a_later_estimate_takes_the_place_of_the_first_and_a_removed_one_is_gone(store):
    other = PatternStore(store.folder, 64)
    path = store.add(rho(), "one", "tiny", {})
    assert torch.equal(other.known()[0].pattern, rho())
    store.add(rho(1), "one", "tiny", {})
    os.utime(path, ns=(1, 1))  # whatever the file system's clock can tell apart
    assert torch.equal(other.known()[0].pattern, rho(1))
    path.unlink()
    assert other.known() == []


def test_a_file_is_read_once_while_it_stays_the_same(store, monkeypatch):
    store.add(rho(), "one", "tiny", {})
    assert len(store.known()) == 1
    monkeypatch.setattr(PatternStore, "_load", None)
    assert len(store.known()) == 1


def test_what_is_hostile_is_left_out_and_said_once(store, caplog):
    store.add(rho(), "good", "tiny", {})
    folder = store.folder
    (folder / "text.safetensors").write_text("no tensors")
    save_file({"rho": rho()}, folder / "bare.safetensors")
    record = {"record": json.dumps({})}
    save_file({"rho": rho()}, folder / "empty.safetensors", record)
    good = safe_open(folder / "good.safetensors", "pt").metadata()
    save_file({"rho": rho() * float("nan")}, folder / "nan.safetensors", good)
    save_file({"rho": rho() * 1e30}, folder / "large.safetensors", good)
    save_file({"rho": rho(size=65)}, folder / "other.safetensors", good)
    os.mkfifo(folder / "pipe.safetensors")
    assert [known.name for known in store.known()] == ["good"]
    assert len(caplog.records) == 7
    assert [known.name for known in store.known()] == ["good"]
    assert len(caplog.records) == 7


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UapError):
        PatternStore(tmp_path / "file", 64).add(rho(), "one", "tiny", {})


def test_names_follow_templates():
    assert name_for(rho().flatten()) == name_for(rho().flatten().clone())
    assert name_for(rho().flatten()) != name_for(rho(1).flatten())
    assert name_for(rho().flatten()).startswith("pattern-")
