"""What the tests share: the tiny network, images by formula, composed configs, real commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from uap_lightning.attacks.fooling import clean_predictions
from uap_lightning.config import find_conf, register_schemas
from uap_lightning.data.generated import generated_image
from uap_lightning.defense_folder import save_defense
from uap_lightning.detectors import DctSvm
from uap_lightning.networks.tiny import CLASSES, tiny
from uap_lightning.norms import LpNorm
from uap_lightning.rectifiers import ResidualPRN


class TensorImages:
    """Images of a tensor, for attacks: N x 3 x H x W, uint8."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def take(self, numbers):
        return self.images[list(numbers)]


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors on shared cores: more threads only wait for one another."""
    torch.set_num_threads(1)
    yield
    # A Trainer built outside of a job leaves its determinism behind.
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    """Every test works in a folder of its own, without W&B's account."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
    monkeypatch.delenv("UAP_CACHE_DIR", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def network():
    return tiny()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(5)
    return TensorImages(
        torch.stack([generated_image(k % CLASSES, 32, generator) for k in range(40)])
    )


@pytest.fixture
def labels(network, images):
    return clean_predictions(network, images)


@pytest.fixture
def linf():
    return LpNorm(float("inf"), 10.0)


SETTINGS = {
    "rectifier": {"_target_": "uap_lightning.rectifiers.ResidualPRN", "width": 8, "blocks": 2},
    "detector": {"_target_": "uap_lightning.detectors.DctSvm", "size": 32},
}


@pytest.fixture
def defense(tmp_path, images):
    """A defence folder for the tiny network; its detector fires on half of ``images``."""
    generator = torch.Generator().manual_seed(1)
    rectifier, detector = ResidualPRN(8, 2), DctSvm(32)
    for parameter in rectifier.parameters():
        parameter.data.normal_(0, 0.15, generator=generator)
    detector.weight.normal_(0, 0.03, generator=generator)
    x = images.take(range(len(images))).float()
    with torch.no_grad():
        detector.bias.sub_(detector(x - rectifier(x)).quantile(0.5))
    condition = {
        "train_network": "tiny",
        "train_norm": "linf",
        "eps": 10.0,
        "classes": CLASSES,
        "size": 32,
        "resize": 40,
        "data": "generated",
    }
    save_defense(tmp_path / "defense", rectifier, detector, SETTINGS, condition)
    return tmp_path / "defense"


TINY = ("network=tiny", "data=generated", "name=run")
QUICK = (*TINY, "bank.train=2", "bank.test=1", "bank.extended=4", "rectifier.steps=12")
QUICK_TRAIN = (*QUICK, "detector.max_images=40", "callbacks.panel.rows=2")


def composed(job: str, *overrides: str, output: Path | None = None) -> DictConfig:
    """The config of a command; its folder is given, because no Hydra job runs."""
    register_schemas()
    with initialize_config_dir(find_conf(), version_base="1.3"):
        folder = output if output is not None else Path("outputs") / "run"
        made = [] if job in ("export", "predict") else [f"paths.output_dir={folder}"]
        return compose(job, [*overrides, *made])


def command(module: str, *overrides: str) -> list[str]:
    return [sys.executable, "-m", f"uap_lightning.{module}", *overrides]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **extra}


def run(module: str, *overrides: str, cwd: Path):
    """Run a real command and return the finished process."""
    return subprocess.run(
        command(module, *overrides),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
