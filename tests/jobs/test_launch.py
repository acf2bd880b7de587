"""Sweeps: a grid is filled, failed cells are listed, finished ones skipped, launchers work."""

import json
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.utils import instantiate

from tests.tiny import CRAFT, GRID, composed, sweep
from uap_lightning import craft as craft_entry
from uap_lightning import train as train_entry
from uap_lightning.jobs import craft as craft_job
from uap_lightning.jobs.config import find_conf, register_schemas
from uap_lightning.jobs.train import train


def result(name, root="outputs"):
    return json.loads((Path(root) / name / "results.json").read_text())


def test_a_grid_goes_on_past_failures_and_is_completed_by_the_same_command(
    monkeypatch, capsys, tmp_path
):
    grid = [*GRID, "norm=l2,linf", "norm.eps=200,0", "name=${norm.name}-${norm.eps}"]
    grid += ["protocol=[a]", "callbacks=[]", "bank.min_fooling_ratio=0"]
    code, _, said = sweep(train_entry, monkeypatch, capsys, *grid, "rectifier.training.steps=2")
    assert code == 1
    assert "error: 2 of the sweep's jobs failed:" in said
    for norm in ("l2", "linf"):
        assert f"  {norm}-0.0: norm.eps is 0.0" in said
        assert result(f"{norm}-0.0")["status"] == "failed"
        assert result(f"{norm}-200.0")["status"] == "ok"
    # The second run takes up what is not finished, and nothing else.
    cells = {path: path.read_bytes() for path in Path("outputs").glob("*/results.json")}
    broken = Path("outputs/l2-200.0/results.json")
    broken.write_text(json.dumps({**json.loads(broken.read_text()), "status": "running"}))
    grid = [word.replace("200,0", "200") for word in grid]
    code, _, said = sweep(train_entry, monkeypatch, capsys, *grid, "rectifier.training.steps=2")
    assert (code, said) == (0, "")
    rows = json.loads(cells.pop(broken))["rows"]
    assert json.loads(broken.read_text())["rows"] == rows
    assert all(path.read_bytes() == content for path, content in cells.items())


def test_a_cell_of_a_sweep_has_the_numbers_it_has_alone(monkeypatch, capsys):
    grid = [*GRID, "callbacks=[]", "bank.min_fooling_ratio=0"]
    code, _, said = sweep(
        train_entry, monkeypatch, capsys, *grid, "norm.eps=10,12", "name=eps${norm.eps}"
    )
    assert code == 0, said
    alone = composed(
        "train",
        *grid,
        "norm.eps=12",
        "name=alone",
        "paths.bank_dir=b",
        output=Path("outputs/alone"),
    )
    train(alone)
    assert result("eps12.0")["rows"] == result("alone")["rows"]


def test_a_crash_is_logged_in_its_own_folder_and_listed(monkeypatch, capsys):
    def crash(*_):
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr(craft_job, "find_bank", crash)
    code, _, said = sweep(craft_entry, monkeypatch, capsys, *CRAFT, "seed=0,1", "name=s${seed}")
    assert code == 1
    for name in ("s0", "s1"):
        assert f"  {name}: nothing to divide by" in said
        assert result(name, "outputs/craft")["reason"] == "nothing to divide by"
        assert "ZeroDivisionError" in (Path("outputs/craft") / name / "craft.log").read_text()


def test_a_single_job_raises_its_error(monkeypatch):
    def crash(*_):
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr(craft_job, "find_bank", crash)
    monkeypatch.setattr(sys, "argv", ["uap", *CRAFT])
    with pytest.raises(ZeroDivisionError, match="nothing to divide by"):
        craft_entry.main()


def test_the_processes_launcher_runs_jobs_side_by_side(monkeypatch, capsys):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    grid = [*CRAFT, "hydra/launcher=processes", "norm.eps=10,0", "name=eps${norm.eps}"]
    code, _, said = sweep(craft_entry, monkeypatch, capsys, *grid)
    assert code == 1
    assert "error: 1 of the sweep's jobs failed:" in said
    assert "  eps0.0: norm.eps is 0.0" in said
    assert result("eps10.0", "outputs/craft")["status"] == "ok"
    assert len(list(Path("banks").glob("*/*.safetensors"))) == 2


def test_the_submitit_launcher_runs_a_job_in_a_process_of_its_own(monkeypatch, capsys):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    seed = torch.initial_seed()
    grid = [*CRAFT, "hydra/launcher=submitit", "name=run"]
    assert sweep(craft_entry, monkeypatch, capsys, *grid)[0] == 0
    assert result("run", "outputs/craft")["status"] == "ok"
    assert list(Path("outputs/craft/.submitit").glob("*/*_result.pkl"))
    assert torch.initial_seed() == seed


@pytest.mark.parametrize(("launcher", "extra"), [("processes", "joblib"), ("slurm", "submitit")])
def test_a_launcher_that_is_not_installed_is_told(launcher, extra, monkeypatch, capsys):
    Plugins.instance()  # the first use of Hydra fills the store
    groups = ConfigStore.instance().repo["hydra"]["launcher"]
    for name in [name for name in groups if name.startswith(extra)]:
        monkeypatch.delitem(groups, name)
    code, _, said = sweep(craft_entry, monkeypatch, capsys, *CRAFT, f"hydra/launcher={launcher}")
    assert code == 1
    assert f"install uap-lightning[{extra}]" in said


def test_the_slurm_launcher_takes_its_settings():
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    register_schemas()
    overrides = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu"]
    with initialize_config_dir(find_conf(), version_base="1.3"):
        cfg = compose("train", overrides, return_hydra_config=True)
    launcher = instantiate({**cfg.hydra.launcher, "submitit_folder": "x", "name": "train"})
    assert type(launcher).__name__ == "SlurmLauncher"
    assert (launcher.params["partition"], launcher.params["gpus_per_node"]) == ("gpu", 1)
