"""Images brought to one size, in one alignment, so that a pattern lies at the same pixels."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from uap_lightning.data.crops import crop_origins
from uap_lightning.data.decoding import CorruptImage, Pixels, read_pixels
from uap_lightning.data.photographs import Photograph

# Sizes that are told apart; of more it is enough to know that there are several.
_SIZES = 100
# Resized by so much, an image of this ratio of its sides would be one line.
_NARROWEST = 100


class Aligned:
    """Reads the part of an image that is compared: uint8, size x size x 3.

    Args:
        size: side in pixels.
        fit: ``resize`` brings the short side to ``size`` and takes the centre, ``crop`` takes the
            centre of the image as it is.

    Attributes:
        sizes: width and height of images that were read, at most 100 different ones.
    """

    def __init__(self, size: int, fit: str) -> None:
        self.size = size
        self.fit = fit
        self.sizes: set[tuple[int, int]] = set()

    def __call__(self, path: Path) -> Pixels:
        """Read one file.

        Raises:
            CorruptImage: it is no image, too small to crop, or too narrow to resize.
        """
        pixels = read_pixels(Photograph(str(path), None), resize=None, smallest=1)
        height, width = pixels.shape[:2]
        if len(self.sizes) < _SIZES:
            self.sizes.add((width, height))
        size = self.size
        if self.fit == "resize":
            if max(width, height) > _NARROWEST * min(width, height):
                self._refuse(path, width, height, f"sides of a ratio above {_NARROWEST}")
            if min(width, height) != size:
                pixels = np.asarray(functional.resize(Image.fromarray(pixels), size))
                height, width = pixels.shape[:2]
        elif min(width, height) < size:
            self._refuse(path, width, height, f"smaller than size={size}")
        [(top, left)] = crop_origins(height, width, size, 1, seed=0)
        # A copy, so that the whole image is let go.
        return pixels[top : top + size, left : left + size].copy()

    def _refuse(self, path: Path, width: int, height: int, why: str) -> None:
        reason = f"{path} is {width} x {height} pixels, {why}"
        raise CorruptImage(f"{reason}: remove it.", reason)


def stacked(crops: list[Pixels]) -> Tensor:
    """Pixels of several images, H x W x 3 each, as uint8 N x 3 x H x W."""
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
