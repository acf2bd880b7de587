"""Image files of every kind, whole and hostile."""

import numpy as np
import pytest
from PIL import Image

from uap_lightning.data.decoding import read_pixels
from uap_lightning.data.photographs import Photograph


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    pixels = np.full((20, 24, 3), 90, dtype=np.uint8)
    path = tmp_path / "image.tif"
    Image.fromarray(pixels).convert(mode).save(path)
    found = read_pixels(Photograph(path, None), None, 8)
    assert found.shape == (20, 24, 3)
    assert abs(int(found.mean()) - 90) < 5


def test_a_rotated_photograph_stands_upright(tmp_path):
    image = Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "r.jpg", exif=exif)
    assert read_pixels(Photograph(tmp_path / "r.jpg", None), None, 8).shape == (30, 20, 3)
