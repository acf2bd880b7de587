"""Weights & Biases off line: what a run holds, read back from its file; TensorBoard; CSV."""

import csv
import json
import os
import struct
import warnings
from pathlib import Path

import pytest
import torch
import wandb

from tests.tiny import CRAFT, GRID, QUICK_TRAIN, composed, sweep
from uap_lightning import craft as craft_entry
from uap_lightning import train as train_entry
from uap_lightning.core.errors import UapError
from uap_lightning.jobs import craft as craft_job
from uap_lightning.jobs import train as train_job
from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.train import train
from uap_lightning.jobs.workspace import workspace
from uap_lightning.workspace import main as make_workspace

OFFLINE = ("logger=[csv,wandb]", "logger.wandb.offline=true")


@pytest.fixture(autouse=True)
def _nothing_left_of_other_tests():
    """W&B keeps a service a process: one that an earlier test used is not begun from."""
    wandb.teardown()
    yield
    wandb.teardown()


def records(path):
    """The records of a ``.wandb`` file: LevelDB's log format behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, pending = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        pending += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(pending)
            pending = b""


def wandb_runs(folder="."):
    """Each run below a folder, by name: what it was started with, ended with and logged."""
    runs = {}
    for path in Path(folder).rglob("offline-run-*/*.wandb"):
        found = {"summary": {}, "artifacts": [], "files": [], "config": {}, "history": []}
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                found["run"] = record.run
                items = record.run.config.update
                found["config"] |= {i.key: json.loads(i.value_json) for i in items}
            if kind == "config":
                items = record.config.update
                found["config"] |= {i.key: json.loads(i.value_json) for i in items}
            if kind == "history":
                row = {
                    "/".join(i.nested_key) or i.key: json.loads(i.value_json)
                    for i in record.history.item
                }
                found["history"].append(row)
                found["summary"] |= row
            if kind == "summary":
                found["summary"] |= {
                    "/".join(i.nested_key) or i.key: json.loads(i.value_json)
                    for i in record.summary.update
                }
            if kind == "request" and record.request.HasField("log_artifact"):
                found["artifacts"].append(record.request.log_artifact.artifact)
            if kind == "artifact":
                found["artifacts"].append(record.artifact)
            if kind == "exit":
                found["exit"] = record.exit.exit_code
        runs[found["run"].display_name] = found
    return runs


def test_every_cell_of_a_sweep_is_a_run_of_its_own(monkeypatch, capsys):
    grid = [*GRID, *OFFLINE, "norm.eps=10,12", "rectifier.training.steps=4,0", "protocol=[a]"]
    grid += ["data.validation_share=0.2", "rectifier.training.validate_every=2"]
    name = "name=eps${norm.eps}-${rectifier.training.steps}"
    environment, filters = dict(os.environ), list(warnings.filters)
    code, _, said = sweep(train_entry, monkeypatch, capsys, *grid, name)
    assert code == 1, said
    assert dict(os.environ) == {**environment, "COLUMNS": "400"}
    assert warnings.filters == filters

    # A refused config starts no run.
    runs = wandb_runs()
    assert sorted(runs) == ["eps10.0-4", "eps12.0-4"], said
    groups = set()
    for eps, cell in ((10.0, "eps10.0-4"), (12.0, "eps12.0-4")):
        found, result = runs[cell], json.loads(Path(f"outputs/{cell}/results.json").read_text())
        assert found["exit"] == 0
        assert found["run"].run_id == result["run_id"]
        assert found["run"].job_type == "train"
        assert found["run"].run_group.startswith("norm.eps=10,12 rectifier.training.steps=4,0 ")
        groups.add(found["run"].run_group)
        assert set(found["run"].tags) == {"tiny", "linf"}
        assert found["config"]["norm"]["eps"] == eps
        assert found["config"]["rectifier"]["training"]["steps"] == 4
        row = result["rows"][0]
        for metric in ("defense_rate", "detection_rate", "acc_clean", "fooling_ratio"):
            logged = found["summary"][f"test/a/{metric}"]
            assert logged == pytest.approx(row[metric], rel=1e-6)
        curve = [line for line in found["history"] if "craft/fooling_ratio" in line]
        assert [line["trainer/global_step"] for line in curve] == [0, 1, 2]
        validated = [line for line in found["history"] if "val/restoration" in line]
        assert [line["trainer/global_step"] for line in validated] == [1, 3]
        assert {"val/loss", "val/clean_kept"} <= validated[0].keys()
        kinds = {artifact.type: artifact for artifact in found["artifacts"]}
        assert {"bank", "defense"} <= set(kinds)
        held = {entry.path for entry in kinds["defense"].manifest.contents}
        assert {"rectifier.safetensors", "detector.safetensors", "defense.json"} <= held
        held = {entry.path for entry in kinds["bank"].manifest.contents}
        assert {"bank.json", "train-0001.safetensors", "test-0000.safetensors"} <= held
        assert list(Path(f"outputs/{cell}").rglob("media/images/test/panel*.png"))
        table = next(Path(f"outputs/{cell}").rglob("media/table/test/rows*.json"))
        table = json.loads(table.read_text())
        assert dict(zip(table["columns"], table["data"][0], strict=True))["test_norm"] == "linf"
        assert Path(f"outputs/{cell}/csv/metrics.csv").is_file()
    assert len(groups) == 1


def test_a_failed_job_ends_its_run_with_an_exit_code(monkeypatch, capsys):
    def crash(*_):
        raise ZeroDivisionError("nothing to divide by")

    crafted = craft_job.find_bank
    banks = iter([crash, crafted])
    monkeypatch.setattr(craft_job, "find_bank", lambda *given: next(banks)(*given))
    grid = [*CRAFT, "logger=[wandb]", "logger.wandb.offline=true", "seed=0,1", "name=s${seed}"]
    code, _, _ = sweep(craft_entry, monkeypatch, capsys, *grid)
    assert code == 1
    runs = wandb_runs()
    assert {name: found["exit"] for name, found in runs.items()} == {"s0": 1, "s1": 0}
    assert {found["run"].job_type for found in runs.values()} == {"craft"}
    # CSV is written whether or not it is asked for.
    assert Path("outputs/craft/s1/csv/metrics.csv").is_file()


def test_without_a_key_the_sentence_says_how_to_go_off_line(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    cfg = composed("craft", *CRAFT, "name=run", "logger=[csv,wandb]")
    with pytest.raises(UapError, match=r"logger\.wandb\.offline=true") as told:
        craft(cfg)
    assert "\n" not in str(told.value)
    assert json.loads(Path("outputs/run/results.json").read_text())["reason"] == str(told.value)


def test_tensorboard_holds_the_curves_and_the_panel():
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = ("logger=[csv,tensorboard]", "protocol=[a]", "trainer.log_every_n_steps=2")
    rate = train(composed("train", *QUICK_TRAIN, *settings))
    events = EventAccumulator("outputs/run/tensorboard")
    events.Reload()
    assert "test/panel" in events.Tags()["images"]
    assert events.Scalars("test/a/defense_rate")[-1].value == pytest.approx(rate)
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == [1, 3, 5, 7, 9, 11]


def curve_of(path):
    with path.open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row.get("train/loss")]


def test_a_resumed_run_keeps_the_curves_it_began(monkeypatch):
    settings = (
        *QUICK_TRAIN,
        "protocol=[a]",
        "trainer.log_every_n_steps=2",
        "callbacks.checkpoint.train_time_interval.seconds=0",
    )

    def killed(*_):
        raise KeyboardInterrupt

    tested = train_job.test
    monkeypatch.setattr(train_job, "test", killed)
    with pytest.raises(KeyboardInterrupt):
        train(composed("train", *settings))
    monkeypatch.setattr(train_job, "test", tested)
    began = json.loads(Path("outputs/run/results.json").read_text())
    last = Path("outputs/run/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 12
    train(composed("train", *settings))
    folder = Path("outputs/run/csv")
    assert curve_of(folder / "metrics-1.csv") == [1, 3, 5, 7, 9, 11]
    assert curve_of(folder / "metrics.csv") == []
    assert json.loads(Path("outputs/run/results.json").read_text())["run_id"] == began["run_id"]


def keys_of(node):
    """All strings that a specification holds."""
    if isinstance(node, str):
        yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from keys_of(item)


def test_the_workspace_shows_what_runs_log():
    pytest.importorskip("wandb_workspaces")
    made = workspace("team", "uap-lightning")
    spec = made._to_model().model_dump(mode="json", by_alias=True)
    held = set(keys_of(spec))
    for protocol in ("a", "b"):
        for metric in ("defense_rate", "undefended_rate", "prn_gain", "prn_restoration"):
            assert f"test/{protocol}/{metric}" in held
    curves = {"train/loss", "val/loss", "val/restoration", "val/clean_kept"}
    assert {"craft/fooling_ratio", *curves, "test/panel", "test/rows"} <= {
        key.removeprefix("summary:") for key in held
    } | {word for key in held for word in key.replace('"', " ").split()}
    assert made.sections[0].name == "Metrics"


def test_a_workspace_without_a_key_ends_in_one_sentence(monkeypatch, tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit) as ended:
        make_workspace(["team", "project"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.count("error: ") == 1
