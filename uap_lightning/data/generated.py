"""Images made by a formula, for tests and dry runs with ``network=tiny``."""

import io
import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from uap_lightning.core.storage import locked, write_atomically
from uap_lightning.data.photographs import Photograph, Split, random_split
from uap_lightning.networks.tiny import CLASSES, COARSE_PERIOD, grating


def generated_images(count: int, size: int, test_share: float, seed: int, folder: str) -> Split:
    """Coarse gratings on a coloured ground: the class is the direction of the grating.

    The images are written as PNG once, so that they take the same way as photographs do.

    Args:
        count: number of images; classes take turns.
        size: side in pixels.
        test_share: share of the images to test on.
        seed: of the images and of the split.
        folder: where the PNG files are kept.
    """
    place = Path(folder) / f"generated-{count}-{size}-{seed}"
    generator = torch.Generator().manual_seed(seed)
    photographs = []
    with locked(place / ".lock", wait=True):
        for number in range(count):
            path = place / f"{number:05d}.png"
            pixels = generated_image(number % CLASSES, size, generator)
            if not path.exists():
                file = io.BytesIO()
                Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, format="PNG")
                write_atomically(path, file.getvalue())
            photographs.append(Photograph(str(path), number % CLASSES))
    return random_split(photographs, test_share, seed)


def generated_image(label: int, size: int, generator: torch.Generator) -> Tensor:
    """One image of class ``label``: uint8, 3 x size x size."""
    phase, amplitude, *colour = torch.rand(8, generator=generator).tolist()
    wave = grating(math.pi * label / CLASSES, COARSE_PERIOD, 2 * math.pi * phase, size)
    ground = torch.tensor(colour[:3])[:, None, None] * 80 + 88
    slope = grating(2 * math.pi * colour[3], 3.0 * size, 2 * math.pi * colour[4], size)
    noise = torch.randn((3, size, size), generator=generator) * 2
    pixels = ground + 20 * slope + (10 + 10 * amplitude) * wave + noise
    image: Tensor = pixels.round().clamp(0, 255).to(torch.uint8)
    return image
