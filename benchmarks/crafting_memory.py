"""Memory of crafting on few and on many images: one ratio.

Each number of images is crafted on in a process of its own, from a cache of random pixels; the
peak of its private memory (pages of the mapped cache are the system's to drop) is compared:

    python benchmarks/crafting_memory.py --few 500 --many 4000
"""

import argparse
import math
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.deepfool_uap_batched import deepfool_uap_batched
from uap_lightning.attacks.fooling import clean_predictions, fooling_ratio
from uap_lightning.data.cache import ImageCache, store
from uap_lightning.data.crops import CropDataset
from uap_lightning.networks.tiny import tiny
from uap_lightning.perturbations.ball import Ball

SIZE = 128


def random_cache(folder: Path, count: int) -> ImageCache:
    """A cache of random images, written a block at a time."""
    generator = np.random.default_rng(0)
    store(
        folder,
        (
            (str(number), generator.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8))
            for number in range(count)
        ),
    )
    return ImageCache(folder)


def private_memory() -> int:
    """Private memory of this process in MiB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError("the system does not tell RssAnon")


def craft(count: int) -> int:
    """Craft on this many images and return the peak of the private memory, in MiB."""
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, private_memory())

    with tempfile.TemporaryDirectory() as folder:
        images = CropDataset(
            random_cache(Path(folder), count), range(count), [0] * count, SIZE, 1, 0
        )
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            network, norm = tiny(), Ball(math.inf, 10.0)
            images.prediction = clean_predictions(network, images)
            rho = cosine_uap(network, images, images.prediction, norm, 0, steps=20).rho
            fooling_ratio(network, images, images.prediction, rho)
            deepfool_uap_batched(network, images, images.prediction, norm, 0, max_passes=1)
        finally:
            done.set()
            watcher.join()
    return peak


def main() -> None:
    """Print the peaks and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=500)
    parser.add_argument("--many", type=int, default=4000)
    parser.add_argument("--only", type=int, help="one number, in this process")
    arguments = parser.parse_args()
    if arguments.only is not None:
        print(craft(arguments.only))
        return
    peaks = []
    for count in (arguments.few, arguments.many):
        command = [sys.executable, __file__, "--only", str(count)]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
        print(f"{count} images: {peaks[-1]} MiB", flush=True)
    times = arguments.many / arguments.few
    print(f"{times:g} times as many images: {peaks[1] / peaks[0]:.2f} times the memory")


if __name__ == "__main__":
    main()
