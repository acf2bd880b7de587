"""A folder of patterns that processes share, and what others may put into it."""

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.record import load_perturbation, save_perturbation
from uap_lightning.streams import store as module
from uap_lightning.streams.store import PatternStore, name_for


@pytest.fixture
def store(tmp_path):
    return PatternStore(str(tmp_path / "store"), 64)


def rho(seed=0, size=64):
    return torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed)) * 5


def test_what_one_adds_another_reads_and_it_is_a_perturbation_file(store):
    assert store.known() == []
    path = store.add(rho(), "one", "tiny", {"images": 8, "changed": 0.5})
    # By its name alone, as the pages call it.
    [known] = PatternStore(str(store.folder), 64).known()
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


def test_of_a_hundred_thousand_files_the_first_by_name_are_read_and_it_is_said_once(
    store, caplog, monkeypatch
):
    monkeypatch.setattr(module, "LIMIT", 3)
    for name in ("a", "c", "b"):
        store.add(rho(), name, "tiny", {})
    for number in range(100_000):
        (store.folder / f"z{number}.safetensors").touch()
    assert [known.name for known in store.known()] == ["a", "b", "c"]
    assert [known.name for known in store.known()] == ["a", "b", "c"]
    assert len(caplog.records) == 1
    with pytest.raises(UapError, match=r"holds 100,003 patterns: expected fewer than 3"):
        store.add(rho(), "d", "tiny", {})
    store.add(rho(1), "a", "tiny", {})  # in the place of an earlier estimate
    assert torch.equal(store.known()[0].pattern, rho(1))


def test_a_folder_that_becomes_unreadable_keeps_what_was_read(store, caplog):
    store.add(rho(), "one", "tiny", {})
    assert len(store.known()) == 1
    store.folder.rename(store.folder.with_name("away"))
    store.folder.write_text("a file in its place")
    for _ in range(3):
        assert [known.name for known in store.known()] == ["one"]
    assert len(caplog.records) == 1
    store.folder.unlink()
    assert store.known() == []  # it was removed
    store.folder.with_name("away").rename(store.folder)
    assert len(store.known()) == 1


def test_drafts_and_what_is_too_large_are_not_read(store, caplog):
    store.add(rho(), "one", "tiny", {})
    (store.folder / ".draft.safetensors").write_text("half")
    with (store.folder / "huge.safetensors").open("wb") as file:
        file.truncate(2**40)
    assert [known.name for known in store.known()] == ["one"]
    assert "more than" in caplog.text


def test_an_imported_pattern_is_finished_and_a_find_has_its_number_of_images(store):
    path = store.add(rho(), "one", "tiny", {"images": 8})
    assert store.known()[0].estimated == 8
    _, record = load_perturbation(path)
    save_perturbation(path, rho(), replace(record, attack={"name": "signs", "images": 8}))
    os.utime(path, ns=(1, 1))
    assert store.known()[0].estimated == 64
