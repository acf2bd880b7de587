"""What tests walk: the tiny network's jobs, images of a tensor, real commands."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from torch import nn

from uap_lightning.data.crops import TensorImages
from uap_lightning.jobs.config import find_conf, register_schemas, typed
from uap_lightning.jobs.schema import (
    CraftConfig,
    EvaluateConfig,
    ExportConfig,
    PredictConfig,
    TrainConfig,
)
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations import __main__ as entry

# Arguments of the parts of the ``defense`` fixture.
SETTINGS = {"rectifier": {"width": 8, "blocks": 2}, "detector": {"size": 32}}
TINY = ("network=tiny", "data=generated", "name=run")
QUICK = (*TINY, "bank.train=2", "bank.test=1", "bank.extended=4", "rectifier.training.steps=12")
QUICK_TRAIN = (*QUICK, "detector.max_images=40", "callbacks.panel.rows=2")

GRID = [word for word in QUICK_TRAIN if not word.startswith(("name", "callbacks"))]
CRAFT = ["network=tiny", "data=generated", "bank.train=1", "bank.test=1", "bank.extended=1"]


def pixels(count=2, size=32, seed=0):
    """Random images: float N x 3 x size x size, 0-255."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 255


def composed(job: str, *overrides: str, output: Path | None = None) -> DictConfig:
    """The config of a command; its folder is given, because no Hydra job runs."""
    register_schemas()
    with initialize_config_dir(find_conf(), version_base="1.3"):
        folder = output if output is not None else Path("outputs") / "run"
        made = (
            []
            if job in ("export", "predict", "report", "scan", "serve")
            else [f"paths.output_dir={folder}"]
        )
        return compose(job, [*overrides, *made])


def typed_config(job: str, *overrides: str, output: Path | None = None):
    """The config of a command as its dataclass, checked."""
    kinds = {"craft": CraftConfig, "train": TrainConfig, "evaluate": EvaluateConfig}
    kinds |= {"export": ExportConfig, "predict": PredictConfig}
    return typed(composed(job, *overrides, output=output), kinds[job])


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


def convolutional(classes=6):
    """A small convolutional network with random weights, a non-linearity and a linear head."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    )
    return TargetNetwork(model, "convolutional", [127.5] * 3, [127.5] * 3)


def photographs(size, count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return TensorImages(
        torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    )


def scenes(count, size=64, seed=0):
    """Images with the spectrum of photographs, and edges: uint8, N x 3 x size x size."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]
    amplitude = 1 / (rows.square() + columns.square()).sqrt().clamp_min(1 / size)
    # Two lines cut it into four parts, each with a colour and a texture of its own.
    grid = torch.linspace(-1, 1, size)
    made = []
    for _ in range(count):
        noise = torch.fft.rfft2(torch.randn(4, 3, size, size, generator=generator)) * amplitude
        texture = torch.fft.irfft2(noise, s=(size, size))
        roughness = torch.tensor([6.0, 12.0, 18.0, 25.0])[:, None, None, None]
        parts = texture / texture.std() * roughness
        parts = parts + torch.rand(4, 3, 1, 1, generator=generator) * 120 + 65
        angles, offsets = torch.rand(2, 2, generator=generator)
        sides = [
            grid[:, None] * math.cos(6.28 * angle) + grid[None] * math.sin(6.28 * angle)
            > 0.8 * offset - 0.4
            for angle, offset in zip(angles.tolist(), offsets.tolist(), strict=True)
        ]
        halves = [torch.where(sides[0], parts[k], parts[k + 1]) for k in (0, 2)]
        made.append(torch.where(sides[1], *halves))
    return torch.stack(made).round().clamp(0, 255).to(torch.uint8)


def truth(size=6, seed=0):
    """A perturbation as we keep it: 3 x H x W, RGB, pixel units, on the ball's surface."""
    rho = np.random.default_rng(seed).uniform(-10, 10, (3, size, size)).astype(np.float32)
    rho[0, 0, 0] = 10
    return rho


def call(*arguments):
    entry.run([str(argument) for argument in arguments])


CAFFENET = TargetNetwork(torch.nn.Identity(), "caffenet", [0.0] * 3, [1.0] * 3)


STATED = ("--network", "caffenet", "--norm", "linf", "--eps", 10)


def write_images(folder: Path, count=4, size=(40, 30), mode="RGB") -> Path:
    """Photographs of noise, each with its own; ``size`` is width and height."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{i}.png")
    return folder


def sweep(entry, monkeypatch, capsys, *overrides):
    """Run ``-m`` in this process: its exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["uap", "-m", *overrides])
    monkeypatch.setenv("COLUMNS", "400")
    code = 0
    try:
        entry.main()
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    return code, said.out, said.err
