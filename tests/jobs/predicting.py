"""A folder of photographs for ``predict``, its settings, and the table it writes."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from tests.tiny import composed


def settings(defense, *overrides):
    fixed = (f"defense={defense}", "network=tiny", "images=photos", "output=found.csv")
    return composed("predict", *fixed, "accelerator=cpu", *overrides)


def save(images, count, folder="photos"):
    """Images of the size that the crops are taken from, so that nothing is resampled."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    pixels = images.take(range(count)).permute(0, 2, 3, 1).numpy()
    for i, image in enumerate(pixels):
        Image.fromarray(np.pad(image, ((4, 4), (4, 4), (0, 0)))).save(f"{folder}/{i:03}.png")


def table(path="found.csv"):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))
