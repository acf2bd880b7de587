"""Commands that are stopped: Ctrl-C at any moment, and killed ones that leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hostile.harness import Started, judge
from tests.hostile.keys import words


def stop(hostile, started, condition, number):
    """Send a signal once a condition holds, and wait for the end."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(started.pid, number)
    return hostile.wait(started)


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(
    "command", ["craft", "train", "evaluate", "export", "predict", "scan", "report"]
)
def test_ctrl_c_after_a_while(command, seconds, hostile, material, tmp_path):
    started = hostile.start(command, *words(command, material), cwd=tmp_path)
    until = time.monotonic() + seconds
    outcome = stop(hostile, started, lambda: time.monotonic() > until, signal.SIGINT)
    hostile.judged(outcome, "ok" if outcome.code == 0 else "interrupted")


def test_ctrl_c_while_crafting(hostile, material, tmp_path):
    more = ("attack=cosine_uap", "attack.steps=100000", "paths.bank_dir=banks")
    started = hostile.start("craft", *words("craft", material, *more), cwd=tmp_path)
    outcome = stop(hostile, started, lambda: any(tmp_path.glob("banks/*")), signal.SIGINT)
    hostile.judged(outcome, "interrupted", ["goes on from here"])


def test_ctrl_c_while_training(hostile, material, tmp_path):
    more = ("rectifier.training.steps=100000", "callbacks.checkpoint.train_time_interval.seconds=0")
    started = hostile.start("train", *words("train", material, *more), cwd=tmp_path)
    last = tmp_path / "outputs" / "run" / "checkpoints" / "last.ckpt"
    outcome = stop(hostile, started, last.exists, signal.SIGINT)
    hostile.judged(outcome, "interrupted", ["goes on from here"])


@pytest.mark.parametrize("command", ["train", "report", "predict", "hub"])
@pytest.mark.parametrize("seconds", [1.2, 2.5])
def test_ctrl_c_while_python_imports(seconds, command, server, hostile, tmp_path):
    """A process of its own: what the fork server has imported, this one imports meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"uap_lightning.{command}", "--help"],
        cwd=tmp_path,
        env=server.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell puts in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    started = Started(process.pid, command, ["--help"], Path(), Path(), tmp_path)
    outcome = judge(started, process.returncode, False, out, err)
    hostile.judged(outcome, "ok" if outcome.code == 0 else "interrupted")


def test_ctrl_c_during_an_import_of_perturbations(hostile, tmp_path):
    """A named pipe that nobody fills would be waited for."""
    os.mkfifo(tmp_path / "slow.npy")
    given = ["import", "bank", "slow.npy", "--orientation", "chw", "--order", "rgb"]
    more = ["--network", "tiny", "--norm", "linf", "--eps", "10", "--part", "train"]
    hostile("perturbations.__main__", *given, *more)


@pytest.mark.parametrize("stopped", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_predict_leaves_no_stray_file_and_goes_on(stopped, hostile, material, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    source = next((material / "images").iterdir())
    for number in range(3000):
        os.link(source, images / f"{number:05}.png")
    more = (f"images={images}", "output=found/out.csv", "batch_size=4")
    given = words("predict", material, *more)
    found = tmp_path / "found"
    started = hostile.start("predict", *given, cwd=tmp_path)
    outcome = stop(hostile, started, lambda: found.exists() and any(found.iterdir()), stopped)
    assert outcome.code in (-stopped, 130, 128 + stopped), outcome
    hostile("predict", *given, expect="ok")
    assert [path.name for path in found.iterdir()] == ["out.csv"]
    assert len((found / "out.csv").read_text().splitlines()) == 3001
