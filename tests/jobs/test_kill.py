"""The main job, killed at random moments and run again, ends with the numbers it has unharmed.

KILLS is how many moments there are, and KILL_SEED draws them; both are printed.
"""

import json
import os
import random
import re
import signal
import time

import pytest

from tests.hostile.harness import Server, odd_files, stamps
from tests.tiny import QUICK_TRAIN

KILLS = int(os.environ.get("KILLS", "6"))
SEED = int(os.environ.get("KILL_SEED", str(time.time_ns() % 10_000)))
JOB = (
    *QUICK_TRAIN,
    *("rectifier.training.steps=40", "callbacks.checkpoint.train_time_interval.seconds=0"),
    *("attack.steps=20", "bank.min_fooling_ratio=0"),
)
# What tells how often and how long a run was at work.
DIARY = ("train.log", "metrics.csv", "hparams.yaml")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """The folder of a run that nobody stopped, and how long it took."""
    folder = tmp_path_factory.mktemp("whole")
    started = time.monotonic()
    outcome = server.wait(server.start("train", *JOB, cwd=folder))
    assert outcome.verdict == "ok", outcome.said
    return folder, time.monotonic() - started


def result(folder):
    content = json.loads((folder / "outputs" / "run" / "results.json").read_text())
    assert content["status"] == "ok"
    return content["rows"], content["digests"]


def left(folder):
    """The files below a folder, diaries apart, and what a trained defence holds."""
    return sorted(
        (
            # Where the photographs lie is part of what their cache is called.
            re.sub("cache/(.?images)-[0-9a-f]+", r"cache/\1", str(path.relative_to(folder))),
            path.read_bytes() if path.parent.name == "defense" else b"",
        )
        for path in stamps(folder)
        if not path.name.startswith(DIARY) and "csv" not in path.parts
    )


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_run_goes_on_to_the_same_numbers(number, server, whole, tmp_path):
    unharmed, seconds = whole
    moment = random.Random(SEED * 1000 + number).uniform(0, seconds)
    print(f"KILL_SEED={SEED}: killed after {moment:.3f} of {seconds:.3f} s")
    started = server.start("train", *JOB, cwd=tmp_path)
    time.sleep(moment)
    os.kill(started.pid, signal.SIGKILL)
    assert server.wait(started).code in (0, -signal.SIGKILL)
    again = server.start("train", *JOB, cwd=tmp_path)
    outcome = server.wait(again)
    assert outcome.verdict == "ok", f"{outcome}\n{outcome.said[-3000:]}"
    assert result(tmp_path) == result(unharmed)
    # What a kill in the middle of a write leaves beside its target is never read.
    for torn in tmp_path.rglob(".*.tmp"):
        torn.unlink()
    assert not odd_files(started, "ok")
    assert left(tmp_path) == left(unharmed)
