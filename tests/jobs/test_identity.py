"""Which keys decide a result, and the folders that runs get."""

import json
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from tests.tiny import GRID, QUICK_TRAIN, composed, sweep
from uap_lightning import train as train_command
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.identity import decisive, first_difference, further_overrides
from uap_lightning.jobs.train import train


def named(monkeypatch, *overrides, tells=()):
    hydra = OmegaConf.create({"overrides": {"task": list(overrides)}})
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
    return further_overrides(*tells)


def test_a_name_tells_what_it_does_not_tell_otherwise(monkeypatch):
    told = ("network=tiny", "norm=l2", "seed=3", "accelerator=cpu", "trainer=ddp")
    tells = ("network", "norm", "seed")
    assert named(monkeypatch, *told, "logger=[csv,wandb]", "paths.bank_dir=x", tells=tells) == ""
    more = (*told, "rectifier.training.steps=5")
    assert named(monkeypatch, *more, tells=tells) == "-rectifier.training.steps=5"
    assert named(monkeypatch, "attack=data_free") == "-attack=data_free"
    assert named(monkeypatch, "attack=data_free", tells=("attack",)) == ""
    assert named(monkeypatch, "data.num_workers=4", "data.batch_size=2") == "-data.batch_size=2"
    assert named(monkeypatch, "ckpt_path=a") == "-ckpt_path=a"


@pytest.mark.parametrize(
    ("job", "one", "other"),
    [
        ("train", ["experiment=quickstart"], ["experiment=quickstart", "seed=1"]),
        ("train", ["experiment=quickstart", "norm=l2"], ["experiment=quickstart"]),
        ("train", ["experiment=sample", "data.root=X"], ["data=imagenet_sample", "data.root=X"]),
        ("craft", ["attack=cosine_uap"], ["attack=cosine_uap_long"]),
        ("evaluate", ["defense=a"], ["defense=a", "network@perturbation_network=vgg16"]),
    ],
)
def test_what_differs_has_another_name(monkeypatch, job, one, other):
    names = []
    for words in (one, other):
        cfg = composed(job, *words)
        hydra = OmegaConf.create({"overrides": {"task": list(words)}})
        with monkeypatch.context() as patched:
            patched.setattr(HydraConfig, "initialized", lambda: True)
            patched.setattr(HydraConfig, "get", lambda found=hydra: found)
            names.append(cfg.name)
    assert names[0] != names[1]
    assert named(monkeypatch) == ""


@pytest.mark.parametrize("value", ["/a/b", "a/b", "été", "[1,2]", "x" * 300, "a b", "'", "a;rm"])
def test_any_value_makes_a_folder_name_of_its_own(monkeypatch, value):
    one = named(monkeypatch, f"data.root={value}")
    other = named(monkeypatch, f"data.root={value}2")
    assert one != other
    for name in (one, other):
        assert len(name) < 120
        assert set(name) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.=+-_"
        )


def test_only_keys_that_decide_a_result_count():
    config = {
        "seed": 1,
        "accelerator": "cpu",
        "callbacks": {"panel": {"rows": 2}},
        "data": {"num_workers": 4, "crop": 32, "cache_dir": "x"},
        "trainer": {"devices": 2, "deterministic": True},
    }
    kept = {"seed": 1, "callbacks": {}, "data": {"crop": 32}}
    kept["trainer"] = {"deterministic": True}
    assert decisive(config) == kept
    assert first_difference(kept, {**kept, "data": {"crop": 64}}) == "data.crop was 32 and is 64"
    assert first_difference(kept, decisive(config)) == ""


def test_a_finished_run_is_shown_whatever_does_not_decide_it():
    rate = train(composed("train", *QUICK_TRAIN))
    before = Path("outputs/run/results.json").read_bytes()
    same = ("data.num_workers=1", "accelerator=cpu", "callbacks.panel.rows=1", "logger=[]")
    assert train(composed("train", *QUICK_TRAIN[:-1], *same)) == rate
    assert Path("outputs/run/results.json").read_bytes() == before
    with pytest.raises(UapError, match=r"data\.train_crops was 2 and is 3"):
        train(composed("train", *QUICK_TRAIN, "data.train_crops=3"))


def test_a_sweep_over_any_key_has_a_folder_a_cell(monkeypatch, capsys):
    """As an optimiser of settings does too: values of keys that no name tells."""
    cells = ["rectifier.training.optimizer.lr=choice(0.001,0.002)", "rectifier.model.width=4,8"]
    grid = [*GRID, "callbacks=[]", "bank.min_fooling_ratio=0", "attack.steps=2", "protocol=[a]"]
    code, _, said = sweep(train_command, monkeypatch, capsys, *grid, *cells)
    assert code == 0, said
    found = [json.loads(p.read_text()) for p in sorted(Path("outputs").glob("*/results.json"))]
    pairs = {
        (
            c["config"]["rectifier"]["training"]["optimizer"]["lr"],
            c["config"]["rectifier"]["model"]["width"],
        )
        for c in found
    }
    assert pairs == {(0.001, 4), (0.001, 8), (0.002, 4), (0.002, 8)}
    assert {c["status"] for c in found} == {"ok"}


def test_a_refused_command_leaves_another_runs_files_as_they_are(monkeypatch, capsys):
    quick = [*QUICK_TRAIN, "hydra.run.dir=outputs/run"]
    monkeypatch.setattr("sys.argv", ["uap", *quick])
    train_command.main()
    before = {
        p: p.read_bytes()
        for p in Path("outputs/run").rglob("*")
        if p.is_file() and p.suffix != ".log"
    }
    for refused in (["norm.eps=0"], ["norm.eps=7"], ["rectifier.training.steps=3"]):
        monkeypatch.setattr("sys.argv", ["uap", *quick, *refused])
        with pytest.raises(SystemExit):
            train_command.main()
        assert "error: " in capsys.readouterr().err
    after = {
        p: p.read_bytes()
        for p in Path("outputs/run").rglob("*")
        if p.is_file() and p.suffix != ".log"
    }
    assert after == before
