"""Each training of the ablation differs in one thing from another, and in no more."""

import subprocess
from pathlib import Path

import pytest

from experiments import general_ablation as ablation
from experiments.runs import UNFINISHED, Plan
from tests.tiny import typed_config

WORDS = ("experiment=general", "data=generated", "bank.path=B", "norm=linf", "data.crop=32")
KINDS = ("own", "procedural", "crafted", "rescaled", "published", "one strength", "pixels")


def plan():
    return Plan({"tiny": ("network=tiny",)}, WORDS, ("rectifier=prn_general_light",), Path("out"))


def test_each_variant_adds_or_changes_one_thing():
    named = ablation.variants("c", "p")
    assert tuple(named) == KINDS
    jobs = ablation.jobs_of(plan(), named)
    assert len({job.folder for job in jobs}) == len(jobs)
    found = [typed_config("train", *job.overrides) for job in jobs]
    assert [cfg.rectifier.name for cfg in found] == list(KINDS)
    c, both = ["c"], ["c", "p"]
    assert [cfg.bank.further for cfg in found] == [[], [], c, c, both, c, c]
    assert [cfg.bank.procedural > 0 for cfg in found] == [False] + [True] * 6
    assert [cfg.bank.rescaled for cfg in found] == [0, 0, 0, 1, 1, 1, 1]
    assert [cfg.rectifier.training.strengths is None for cfg in found] == [False] * 5 + [
        True,
        False,
    ]
    losses = [cfg.rectifier.training.loss for cfg in found]
    assert [loss.features > 0 for loss in losses] == [True] * 6 + [False]
    assert [loss.reconstruction for loss in losses] == [0.2] * 6 + [1.0]
    for cfg in found:
        assert cfg.detector.name == "none"
        assert cfg.detector.false_alarms is None
        assert cfg.rectifier.model == found[0].rectifier.model
        assert cfg.rectifier.training.steps == found[0].rectifier.training.steps


def test_the_measurement_has_all_defences_and_no_setting_of_a_training():
    jobs = ablation.jobs_of(plan(), ablation.variants("c", "p"))
    words = ablation.measurement(jobs, plan(), ["--patterns", "unseen"])
    named = [words[n + 1] for n, word in enumerate(words) if word == "--defense"]
    assert named == [str(job.folder / "defense") for job in jobs]
    overrides = [word for word in words[2:] if "=" in word]
    assert not any(word.startswith(("bank", "rectifier", "experiment")) for word in overrides)
    # They are settings of craft, which experiments.unseen_attacks takes.
    assert typed_config("craft", *overrides).name == "general_ablation"


def options(folder):
    """The script's own words, with three empty folders for banks."""
    words = ["--network", "network=tiny"]
    for name in ("crafted", "published", "patterns"):
        (folder / name).mkdir()
        words += [f"--{name}", str(folder / name)]
    return words


def test_the_commands_can_be_seen_before_they_are_run(tmp_path, capsys):
    ablation.main([*options(tmp_path), "--dry-run", *WORDS])
    *trainings, measured = capsys.readouterr().out.splitlines()
    assert len(trainings) == len(KINDS)
    assert measured.startswith("python -m experiments.unseen_attacks --defense")
    assert f"--patterns {tmp_path}/patterns --fit crop --photographs 300" in measured


def test_what_is_missing_is_told_before_anything_is_trained(tmp_path):
    words = ["--crafted", str(tmp_path), "--published", str(tmp_path), "--network", "network=tiny"]
    with pytest.raises(SystemExit, match="nowhere is no folder"):
        ablation.main([*words, "--patterns", "nowhere", *WORDS])
    with pytest.raises(SystemExit, match="expected one real network"):
        ablation.main([*words, "--patterns", str(tmp_path), "--smoke"])


def test_a_measurement_that_fails_is_told_one_cut_short_goes_on_and_a_table_needs_none(
    tmp_path, monkeypatch
):
    ran = []

    def run(words, *, check, timeout):
        ran.append(timeout)
        if timeout is not None:
            raise subprocess.TimeoutExpired(words, timeout)
        return subprocess.CompletedProcess(words, 3)

    monkeypatch.setattr(ablation, "carry_out", lambda jobs, chosen: True)
    monkeypatch.setattr(ablation, "require_results", lambda jobs: None)
    monkeypatch.setattr(ablation.subprocess, "run", run)
    words = [*options(tmp_path), *WORDS]
    with pytest.raises(SystemExit, match=r"experiments\.unseen_attacks .* ended with status 3"):
        ablation.main(words)
    with pytest.raises(SystemExit) as stopped:
        ablation.main([*words, "--minutes", "1"])
    assert stopped.value.code == UNFINISHED
    assert 0 < ran[1] <= 60
    ablation.main([*words, "--table-only"])
    assert len(ran) == 2
