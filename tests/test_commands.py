"""Real commands in real processes: killed and resumed, two at once, and from a wheel."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
import torch

from tests.tiny import QUICK_TRAIN, command, composed, environment, run
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.train import train
from uap_lightning.perturbations.record import load_perturbation

ROOT = Path(__file__).resolve().parent.parent
RUN = (*QUICK_TRAIN, "rectifier.training.steps=40")
# Three entry points, as a console script calls them; one process, because each start takes long.
SHOWN = """
import sys
from uap_lightning import evaluate, report, train
for entry, words in (train, ["norm=l2", "--resolve"]), (evaluate, []), (report, []):
    sys.argv = [entry.__name__, "--cfg", "job", *words]
    entry.main()
"""

LOADED = """
from uap_lightning import pretrained
from uap_lightning.guard.defense_folder import load_defense
for name in pretrained.names():
    load_defense(pretrained.folder(name))
    print(pretrained.folder(name))
"""


def rows(folder):
    content = json.loads((folder / "results.json").read_text())
    assert content["status"] == "ok"
    return content["rows"]


def stop_when(folder, condition, stop, *overrides):
    """Start training, send it a signal as soon as ``condition`` holds, wait for its end."""
    process = subprocess.Popen(
        command("train", *overrides),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell puts in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 240
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(stop)
    return process, process.communicate(timeout=60)[1]


def test_a_run_stopped_in_every_stage_ends_with_the_same_numbers(tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    overrides = (
        *RUN,
        "rectifier.training.steps=600",
        "callbacks.checkpoint.train_time_interval.seconds=0",
    )
    train(composed("train", *overrides, f"paths.bank_dir={whole / 'banks'}", output=whole))

    # killed in crafting
    def one_crafted():
        return any(stopped.glob("banks/*/train-0000.safetensors"))

    process, _ = stop_when(stopped, one_crafted, signal.SIGKILL, *overrides)
    assert process.returncode == -signal.SIGKILL
    crafted = {p.name: p.stat().st_mtime_ns for p in stopped.glob("banks/*/*.safetensors")}
    assert 1 <= len(crafted) < 3

    # killed in training, then interrupted there
    last = stopped / "outputs" / "run" / "checkpoints" / "last.ckpt"
    process, _ = stop_when(stopped, last.exists, signal.SIGKILL, *overrides)
    assert process.returncode == -signal.SIGKILL
    killed_at = torch.load(last, weights_only=True)["global_step"]
    assert 0 < killed_at < 600
    stamp = last.stat().st_mtime_ns

    def another_checkpoint():
        return last.exists() and last.stat().st_mtime_ns != stamp

    process, said = stop_when(stopped, another_checkpoint, signal.SIGINT, *overrides)
    assert process.returncode == 130, said
    assert "interrupted: the same command goes on from here" in said
    assert killed_at < torch.load(last, weights_only=True)["global_step"] < 600

    # killed after the last step: the detector is fitted and the test run again
    done = run("train", *overrides, cwd=stopped)
    assert done.returncode == 0, done.stderr
    assert "Going on from" in done.stdout + done.stderr
    assert "Defense rate" in done.stdout
    results = stopped / "outputs" / "run" / "results.json"
    content = json.loads(results.read_text())
    results.write_text(json.dumps({**content, "status": "running", "rows": []}))
    shutil.rmtree(stopped / "outputs" / "run" / "defense")
    monkeypatch.chdir(stopped)
    train(composed("train", *overrides, output=results.parent))

    for path in stopped.glob("banks/*/*.safetensors"):
        assert crafted.get(path.name, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    for name in ("rectifier", "detector"):
        file = Path("defense") / f"{name}.safetensors"
        assert (results.parent / file).read_bytes() == (whole / file).read_bytes()
    assert rows(results.parent) == rows(whole)


def test_two_processes_fill_one_bank_without_loss_or_repetition(tmp_path):
    kept = ("rectifier", "detector", "callbacks", "name")
    overrides = [o for o in RUN if not o.startswith(kept)]
    processes = [
        subprocess.Popen(
            command("craft", *overrides, f"name=run{i}"),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    files = sorted(path.name for path in tmp_path.glob("banks/*/*.safetensors"))
    assert files == ["test-0000.safetensors", "train-0000.safetensors", "train-0001.safetensors"]
    for file in files:
        name = file.removesuffix(".safetensors")
        crafted = sum(text.count(f"{name}: fooling ratio") for text in said)
        # a candidate that is too like another is crafted again, by the next seed
        assert crafted == 1 + sum(text.count(f"{name}, attempt") for text in said)
    digests = {
        json.loads((tmp_path / "outputs" / "craft" / f"run{i}" / "results.json").read_text())[
            "digests"
        ]["bank"]
        for i in range(2)
    }
    assert len(digests) == 1


def test_the_wheel_works_in_a_bare_environment_from_another_folder(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    wheel = next(tmp_path.glob("*.whl"))
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = str(place / "bin" / "python")
    site = next(place.glob("lib/python*/site-packages"))
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
    )
    # The dependencies come from this environment, the package from the wheel alone.
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "dependencies.pth").write_text(packages + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = str(place / "bin" / "uap-train")
    env = {k: v for k, v in environment().items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [script, *QUICK_TRAIN], cwd=elsewhere, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert rows(elsewhere / "outputs" / "run")
    where = subprocess.run(
        [python, "-c", "import uap_lightning.jobs.config as c; print(c.__file__, c.find_conf())"],
        cwd=elsewhere,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert all(path.startswith(str(site)) for path in where)
    shown = subprocess.run(
        [python, "-c", SHOWN], cwd=elsewhere, env=env, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    for said in ("eps: 2000", "min_fooling_ratio: 0.8", "defense: ???", "results: outputs"):
        assert said in shown.stdout
    # So do the trained defences.
    loaded = subprocess.run(
        [python, "-c", LOADED], cwd=elsewhere, env=env, capture_output=True, text=True, check=True
    ).stdout.split()
    assert loaded
    assert all(path.startswith(str(site)) for path in loaded)
    # The page's template and style come from the wheel too.
    reporter = str(place / "bin" / "uap-report")
    subprocess.run([reporter, "results=outputs"], cwd=elsewhere, env=env, check=True)
    assert "<table" in (elsewhere / "report.html").read_text()
    listed = subprocess.run(
        [python, "-m", "uap_lightning"], cwd=elsewhere, env=env, capture_output=True, text=True
    )
    assert "uap_lightning.evaluate" in listed.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_disk_that_is_full_is_told_and_nothing_is_half_written(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=28k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        overrides = [o for o in RUN if not o.startswith(("rectifier", "detector", "callbacks"))]
        with pytest.raises(UapError, match="No space left on device"):
            craft(composed("craft", *overrides, f"paths.bank_dir={disk}"))
        left = [path for path in disk.rglob("*") if path.is_file()]
        for path in left:
            if path.suffix == ".safetensors":
                load_perturbation(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            else:
                assert path.name.endswith(".lock"), path
    finally:
        subprocess.run(["umount", str(disk)], check=True)
