"""What decoding once saves, and what it costs: one ratio, disk and memory.

Crops read from the cache against the same crops made by Pillow and torchvision from the files,
one thread each, in turns; then the cache of a generated set on disk and in memory:

    python benchmarks/decoding.py --root FOLDER_OF_PHOTOGRAPHS --images 5000
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from uap_lightning.data.cache import decode_once
from uap_lightning.data.crops import CropDataset
from uap_lightning.data.folder import files_below
from uap_lightning.data.photographs import Photograph

RESIZE, CROP = 256, 224
WHOLE_SET = 50_000


def speed(root: Path, rounds: int) -> None:
    """Seconds for all crops, from the files and from the cache."""
    files = files_below(root)
    direct = transforms.Compose(
        [transforms.Resize(RESIZE), transforms.CenterCrop(CROP), transforms.PILToTensor()]
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        photographs = [Photograph(file, None) for file in files]
        cache = decode_once(photographs, RESIZE, 1, Path(folder), square=True)
        first = time.perf_counter() - started
        crops = CropDataset(cache, range(len(cache)), [-1] * len(cache), CROP, 1, 0)
        from_files, from_cache = [], []
        for _ in range(rounds):
            started = time.perf_counter()
            for file in files:
                with Image.open(file) as image:
                    direct(image.convert("RGB"))
            from_files.append(time.perf_counter() - started)
            started = time.perf_counter()
            for number in range(len(crops)):
                crops.pixels(number)
            from_cache.append(time.perf_counter() - started)
    slow, fast = statistics.median(from_files), statistics.median(from_cache)
    print(
        f"{len(files)} photographs: first time {first:.2f} s, from the files {slow:.2f} s, from "
        f"the cache {fast:.3f} s: ratio files / cache {slow / fast:.0f}"
    )


def size(images: int) -> None:
    """Disk and resident memory of a generated set, and what the whole of ImageNet would take."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        photographs = []
        for number in range(images):
            small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            path = root / f"{number:06d}.jpg"
            Image.fromarray(small).resize((500, 375)).save(path)
            photographs.append(Photograph(str(path), None))
        before = _peak()
        cache = decode_once(photographs, RESIZE, 1, root / "cache", square=True)
        crops = CropDataset(cache, range(len(cache)), [-1] * len(cache), CROP, 5, 0)
        order = torch.randperm(len(crops), generator=torch.Generator().manual_seed(0))
        for number in order.tolist():
            crops.pixels(number)
        disk = sum(file.stat().st_size for file in cache.folder.iterdir())
    grown, scale = _peak() - before, WHOLE_SET / images
    print(
        f"{images} generated images: {disk / 1e9:.2f} GB on disk ({scale * disk / 1e9:.2f} GB for "
        f"{WHOLE_SET}); resident memory {before / 2**20:.0f} MiB before and {grown / 2**20:.0f} "
        f"MiB more after decoding and reading every crop (at most {scale * grown / 2**30:.2f} GiB "
        f"more for {WHOLE_SET}, were all of it to grow with the set)"
    )


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=5_000, help="size of the generated set")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    speed(arguments.root, arguments.rounds)
    size(arguments.images)


if __name__ == "__main__":
    main()
