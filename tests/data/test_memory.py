"""What a photograph of a large collection takes in memory, counted in bytes and not in time."""

import tracemalloc
from functools import partial

import numpy as np
from PIL import Image

from uap_lightning.data.collection import load_collection
from uap_lightning.data.folder import image_folder


def test_a_photograph_takes_some_hundred_bytes(tmp_path):
    """The peak of what Python and NumPy hold; 900 at most, of which a name takes 200."""
    peaks = {}
    for count in (200, 2_200):
        folder = tmp_path / str(count)
        folder.mkdir()
        generator = np.random.default_rng(count)
        for number in range(count):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:05}.png")
        source = partial(image_folder, str(folder), 0.2, 0)
        load = partial(load_collection, source, 8, False, 8, 1, 1, 1, 0.25, 64, 0, str(tmp_path), 0)
        load()  # decodes, which holds some images at once however many there are
        tracemalloc.start()
        load()
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    each = (peaks[2_200] - peaks[200]) / 2_000
    assert each < 900
