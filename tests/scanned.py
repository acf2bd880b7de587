"""Folders that are scanned, some of their images with a pattern, and what a scan wrote."""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.tiny import composed

SIGNS = 8 * (2 * torch.randint(0, 2, (3, 64, 64), generator=torch.Generator().manual_seed(7)) - 1)
ATTACKED = (3, 17, 28)


def settings(*overrides):
    fixed = ("images=photos", "output=out", "size=64", "accelerator=cpu", "num_workers=2")
    return composed("scan", *fixed, *overrides)


def save(images, folder="photos", attacked=(), first=0):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        if number in attacked:
            image = (image.int() + SIGNS).clamp(0, 255).to(torch.uint8)
        pixels = image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(f"{folder}/{number + first:03}.png")


def names(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


def table(path="out/files.csv"):
    with Path(path).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def pixels(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).int()
