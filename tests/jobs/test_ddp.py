"""Training by two processes: the batches, draws, losses and results of one."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from safetensors.torch import load_file

from tests.tiny import QUICK_TRAIN, composed, environment, run, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import StepBatches
from uap_lightning.jobs import train as train_entry
from uap_lightning.jobs.ddp import _arguments_of_this_job
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.sampling import PerturbationSampler


@given(
    count=st.integers(1, 40),
    size=st.integers(1, 12),
    processes=st.integers(1, 5),
    step=st.integers(0, 30),
)
def test_processes_share_the_batch_that_one_would_have(count, size, processes, step):
    whole = StepBatches(count, size, 3, lambda: step)
    parts = [StepBatches(count, size, 3, lambda: step, r, processes) for r in range(processes)]
    batch = next(iter(whole))
    own = [next(iter(part)) for part in parts]
    counted = [b for b, part in zip(own, parts, strict=True) if part.weight(step)]
    assert sorted(n for b in counted for n in b) == sorted(batch)
    # The mean over processes of their weighted means is the mean over the batch.
    mean = sum(p.weight(step) * sum(b) / len(b) for p, b in zip(parts, own, strict=True))
    assert mean / processes == pytest.approx(sum(batch) / len(batch))


@pytest.mark.parametrize("vary", [False, True])
def test_processes_draw_the_perturbations_that_one_would_have(vary):
    norm = Ball(float("inf"), 10.0)
    rho = norm.project(20 * torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    images = torch.full((7, 3, 8, 8), 128.0)
    sampler = PerturbationSampler(rho, 0.5, vary, norm, 1)
    whole, coins = sampler(images, 4)
    for rank in range(2):
        own = list(range(rank, 7, 2))
        part, coin = sampler(images[own], 4, own, 7)
        assert torch.equal(part, whole[own])
        assert torch.equal(coin, coins[own])


def losses(folder, name="train/loss"):
    with (Path(folder) / "csv" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


# As the only cell of a sweep, whose other process must not start the sweep again; and by torchrun,
# which starts both before anything is crafted.
LIGHTNING = ["-m", "uap_lightning.train", "-m"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.mark.parametrize(
    "start", [LIGHTNING, [*TORCHRUN, *LIGHTNING[:2]]], ids=["lightning", "torchrun"]
)
def test_two_processes_train_and_test_as_one_does(tmp_path, start):
    # 94 crops in batches of 31: no batch halves evenly, and the last of a round holds one crop.
    # One photograph is held out: each process validates on one of its two crops.
    settings = [
        *QUICK_TRAIN,
        "accelerator=cpu",
        "data.validation_share=0.02",
        "rectifier.training.validate_every=5",
        "rectifier.training.batch_size=31",
        "trainer.log_every_n_steps=1",
        # Not auto: bfloat16, where a processor has it, would drown a coin in its rounding.
        "rectifier.training.precision=32-true",
    ]
    done = subprocess.run(
        [sys.executable, *start, *settings, "trainer=ddp"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    two = tmp_path / "outputs" / "run"
    one = tmp_path / "alone"
    train_entry.train(composed("train", *settings, "paths.bank_dir=alone_bank", output=one))

    assert len(losses(one)) == 12
    # The loss is a mean of 95,232 terms, whose partial sums are taken in another order: sqrt(n)
    # roundings of 2^-24 each. Another coin or crop changes it by percents.
    assert losses(two) == pytest.approx(losses(one), rel=2**-24 * 95_232**0.5)
    assert len(losses(one, "val/loss")) == 3
    for name in ("val/loss", "val/restoration", "val/clean_kept"):
        assert losses(two, name) == pytest.approx(losses(one, name), rel=1e-4)
    content, alone = (json.loads((at / "results.json").read_text()) for at in (two, one))
    assert content["digests"]["bank"] == alone["digests"]["bank"]
    assert (content["status"], len(content["rows"])) == ("ok", 2)
    for row, expected in zip(content["rows"], alone["rows"], strict=True):
        # Every test crop is counted once.
        assert (row["n_images"], row["n_perturbed"]) == (
            expected["n_images"],
            expected["n_perturbed"],
        )
        assert row["acc_clean"] == expected["acc_clean"]
        assert row["defense_rate"] == pytest.approx(expected["defense_rate"], abs=5)
    trained, expected = (load_file(at / "defense" / "rectifier.safetensors") for at in (two, one))
    for name, tensor in expected.items():
        assert (trained[name] - tensor).norm() < 1e-3 * tensor.norm()


def test_a_number_that_a_job_script_hands_on_is_not_a_process_among_several(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "3")
    done = run(
        "train", *QUICK_TRAIN, "accelerator=cpu", "trainer.log_every_n_steps=1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "run"
    assert json.loads((folder / "results.json").read_text())["status"] == "ok"
    assert len(losses(folder)) == 12


def test_the_other_processes_of_a_sweep_get_its_options_and_their_own_settings(monkeypatch):
    given = "train -m --config-dir=mine network=tiny,googlenet ~callbacks.panel seed=0,1"
    searched = "hydra.searchpath=[file:///mine]"
    monkeypatch.setattr(sys, "argv", [*given.split(), searched])
    own = ["network=tiny", "~callbacks.panel", "seed=1"]
    hydra = OmegaConf.create({"mode": RunMode.MULTIRUN, "overrides": {"task": own}})
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
    with _arguments_of_this_job():
        assert sys.argv == ["train", "--config-dir=mine", searched, *own, "hydra.mode=RUN"]
    assert sys.argv == [*given.split(), searched]


def test_a_rectifier_that_is_not_trained_needs_no_second_process():
    with pytest.raises(UapError, match="rectifier=jpeg is not trained: set trainer=default"):
        typed_config("train", *QUICK_TRAIN[:3], "rectifier=jpeg", "trainer=ddp")
