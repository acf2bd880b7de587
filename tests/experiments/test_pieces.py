"""Runs in pieces: what is stopped goes on, and ends with the rows of what nobody stopped."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import cross_network_tables, norm_tables, paper_tables, runs
from tests.tiny import composed
from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.evaluate import evaluate
from uap_lightning.jobs.train import train
from uap_lightning.training import kept
from uap_lightning.training.module import RectifierModule

ENTRIES = {"train": train, "evaluate": evaluate, "craft": craft}
PIECE = ("--smoke", "--minutes", "9", "--rectifier", "prn_residual rectifier.training.steps=6")


@pytest.fixture
def steps(monkeypatch):
    """Counts the steps of the module; ``steps.stop`` holds how many of a kind a piece has."""
    counted = SimpleNamespace(train=0, test=0, stop={}, jobs={})

    def counting(kind, name):
        original = getattr(RectifierModule, name)

        def step(self, *arguments):
            if counted.stop.get(kind) == 0:
                raise KeyboardInterrupt
            counted.stop[kind] = counted.stop.get(kind, -1) - 1
            setattr(counted, kind, getattr(counted, kind) + 1)
            return original(self, *arguments)

        monkeypatch.setattr(RectifierModule, name, step)

    counting("train", "training_step")
    counting("test", "test_step")

    def launch(job, seconds):
        assert 0 < seconds <= 540
        counted.jobs[job.folder.name] = job
        overrides = job.command[2:-1]
        try:
            ENTRIES[job.verb](composed(job.verb, *overrides, output=job.folder.resolve()))
        except KeyboardInterrupt:
            return None
        return 0

    monkeypatch.setattr(runs, "launch", launch)
    monkeypatch.setattr(kept, "SECONDS", 0)
    for script in (paper_tables, norm_tables, cross_network_tables):
        monkeypatch.setattr(script, "NORMS", ("linf",))
    smoke = (*runs.SMOKE, "data.batch_size=4", "bank.test=3", "norm.eps=30", "attack.steps=20")
    monkeypatch.setattr(runs, "SMOKE", smoke)
    every_step = "callbacks.checkpoint.train_time_interval.seconds=0"
    monkeypatch.setattr(runs, "SMOKE_TRAINING", (*runs.SMOKE_TRAINING, every_step))
    return counted


def rows_of(folder):
    found = {f.parent.name: json.loads(f.read_text()) for f in Path(folder).glob("*/results.json")}
    return {name: (content["rows"], content["status"]) for name, content in found.items()}


def test_what_is_stopped_in_training_and_in_tests_ends_with_the_rows_of_the_whole(steps, capsys):
    paper_tables.main([*PIECE, "--output", "whole"])
    whole = (steps.train, steps.test)
    assert whole[0] == 2 * 6
    assert len(steps.jobs) == 6
    steps.train = steps.test = 0
    stops = ({"train": 2}, {"train": 3}, {"test": 2}, {"train": 4}, {"test": 3})
    for stop in stops:
        steps.stop = dict(stop)
        with pytest.raises(SystemExit) as ended:
            paper_tables.main([*PIECE, "--output", "pieces"])
        assert ended.value.code == 75
        said = capsys.readouterr().out.splitlines()[-1]
        assert said.endswith("is next: the same command goes on from here.")
        assert not Path("pieces/tables_1_to_5.md").exists()
    assert said.startswith("3 of 6 runs are done, train-twin-linf-prn_residual is next")
    steps.stop = {}
    paper_tables.main([*PIECE, "--output", "pieces"])
    # No step of training and no batch of a test was done twice.
    assert (steps.train, steps.test) == whole
    rows = rows_of("whole")
    assert rows_of("pieces") == rows
    # Numbers that a wrong image, perturbation or weight would change.
    (first, _), status = rows["train-tiny-linf-prn_residual"]
    assert status == "ok"
    assert 0 < first["undefended_rate"] < 100
    assert first["ci95_perturbations"]["undefended_rate"] is not None
    assert not list(Path().rglob("outcomes.safetensors"))
    text = Path("pieces/tables_1_to_5.md").read_text()
    assert "; floor " in text
    assert "tiny: data=generated, crops of 32, 2 + 3 perturbations" in text
    assert "Cross-network" in text
    # All is done: nothing is launched again, unless its defence is another by now.
    jobs = dict(steps.jobs)
    steps.jobs.clear()
    paper_tables.main([*PIECE, "--output", "pieces"])
    assert steps.jobs == {}
    record = Path("pieces/train-tiny-linf-prn_residual/defense/defense.json")
    record.write_text(record.read_text() + " ")
    assert sorted(name for name, job in jobs.items() if not runs.is_finished(job)) == [
        "train-tiny-linf-prn_residual",
        "train-tiny-linf-prn_residual-test-twin-linf",
    ]


def process(code):
    return SimpleNamespace(command=["-c", code])


SLEEP = "import time; time.sleep(60)"


def test_a_job_is_interrupted_and_then_killed(monkeypatch):
    monkeypatch.setattr(runs, "GRACE", 20.0)
    last = f"try: {SLEEP}\nexcept KeyboardInterrupt: pass"
    # As in the background of a shell: what is started inherits it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert runs.launch(process(last), 3) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert runs.launch(process("import sys; sys.exit(3)"), 60) == 3
    assert runs.launch(process("pass"), None) == 0
    assert runs.launch(process("raise SystemExit('must not start')"), 0) is None
    monkeypatch.setattr(runs, "GRACE", 0.3)
    deaf = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {SLEEP}"
    assert runs.launch(process(deaf), 2) is None


def test_overwriting_in_pieces_is_refused(capsys):
    with pytest.raises(SystemExit, match="overwrite=true would begin anew in each piece"):
        paper_tables.main(["--minutes", "9", "--network", "network=tiny", "overwrite=true"])


def test_rectifiers_have_overrides_and_folders_of_their_own(capsys):
    given = ["--network", "network=tiny", "rectifier.training.steps=7", "data=generated"]
    paper_tables.main(
        [
            "--dry-run",
            *given,
            "--rectifier",
            "prn rectifier.training.epochs=-1",
            "--rectifier",
            "jpeg",
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    trained = [line for line in lines if "uap_lightning.train" in line]
    assert [line.split("train-")[-1] for line in trained] == [
        *("tiny-l2-prn", "tiny-linf-prn", "tiny-l2-jpeg", "tiny-linf-jpeg")
    ]
    assert sum("rectifier.training.epochs=-1" in line for line in lines) == 2
    # A crafting and a test have no such key.
    assert sum("rectifier.training.steps=7" in line for line in lines) == len(trained)
    assert all("data=generated" in line for line in lines)
