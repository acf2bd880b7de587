"""The sentences that entry points end in."""

import sys
from pathlib import Path

import pytest

from uap_lightning import craft as craft_entry
from uap_lightning import evaluate as evaluate_entry
from uap_lightning import report as report_entry
from uap_lightning import train as train_entry
from uap_lightning.jobs.launch import launch


def said_by(entry, monkeypatch, capsys, *overrides):
    """What an entry point prints for these overrides, in this process."""
    monkeypatch.setattr(sys, "argv", ["uap", *overrides])
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["norm=linff"], "norm=linff does not exist: choose one of l2, linf; did you mean"),
        (["norm=-3"], "norm=-3 does not exist: choose one of l2, linf."),
        (
            ["logger=[csv]", "network@perturbation_network=7"],
            "perturbation_network=7 does not exist",
        ),
        (["-m", "network=3,tiny"], "a group of settings is given a number: expected the name"),
        (["netwrk=tiny"], "netwrk"),
        (["network=tiny", "norm.epz=3"], "norm.epz"),
        (["network=tiny", "norm.eps=0"], "norm.eps is 0"),
        (["network=tiny", "norm.p=1"], "norm.p is 1"),
        ([], "data.root is not set: set data.root=FOLDER"),
        (["data.root=missing"], "data.root is missing, which is not a folder"),
        (["network=tiny", "data=generated", "bank.path=no"], "bank.json cannot be read"),
        (["network=tiny", "data=generated", "accelerator=tpu"], "accelerator is tpu"),
        (["seed="], "seed"),
        (
            ["network=tiny", "data=generated", "rectifier=jpeg", "rectifier.training.steps=9"],
            "a key is set below one that is null",
        ),
        (["network=tiny", "data=folder"], "data.root"),
        (["network=tiny", "data=generated", "ckpt_path=no.ckpt"], "no.ckpt is not a checkpoint"),
    ],
)
def test_bad_input_ends_in_one_sentence(monkeypatch, capsys, overrides, said):
    message = said_by(train_entry, monkeypatch, capsys, *overrides)
    lines = [line for line in message.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in message


def test_the_imagenet_sentence_names_the_quickstart(monkeypatch, capsys):
    message = said_by(train_entry, monkeypatch, capsys, "network=googlenet", "norm=linf")
    assert "experiment=quickstart" in message


def test_other_commands_end_in_one_sentence_too(monkeypatch, capsys):
    assert "holds no results.json" in said_by(report_entry, monkeypatch, capsys, "results=none")
    assert "defense" in said_by(evaluate_entry, monkeypatch, capsys, "network=tiny")
    said = said_by(evaluate_entry, monkeypatch, capsys, "defense=none", "network=tiny")
    assert "none/defense.json cannot be read" in said
    assert "attack" in said_by(craft_entry, monkeypatch, capsys, "attack=no")


def test_no_write_permission_is_told(monkeypatch, capsys):
    Path("file").write_text("")
    said = said_by(
        craft_entry, monkeypatch, capsys, "network=tiny", "data=generated", "paths.bank_dir=file/b"
    )
    assert "cannot be created" in said


def reads_what_is_not_there(cfg):
    Path("none.txt").read_text()


def test_only_what_comes_before_a_job_is_told_as_a_folder_that_cannot_be_written(
    monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["uap"])
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        launch(reads_what_is_not_there, "report")
    assert "cannot be written" not in capsys.readouterr().err
    Path("file").write_text("")
    said = said_by(report_entry, monkeypatch, capsys, "hydra.run.dir=file/runs")
    assert "cannot be written" in said
    assert "set hydra.run.dir" in said
