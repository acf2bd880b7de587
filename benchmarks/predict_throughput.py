"""Whether ``predict`` keeps the guard busy and its memory flat, on generated JPEG images.

In rounds of 1,000 images: the bare guard in a loop over one batch that lies in memory, then the
rows of ``uap_lightning.predict`` from files to a file. In turns, so that a machine whose speed
drifts slows both:

    python benchmarks/predict_throughput.py --defense outputs/quickstart/defense --images 10000
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from uap_lightning.core.device import pick_device
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.classify import read_names, reader, rows
from uap_lightning.jobs.config import build, find_conf, register_schemas
from uap_lightning.jobs.part import append

ROUND = 1_000


def config(defense: Path, network: str) -> DictConfig:
    """That of ``python -m uap_lightning.predict``."""
    register_schemas()
    with initialize_config_dir(find_conf(), version_base="1.3"):
        given = [f"defense={defense}", f"network={network}", "images=none", "output=none"]
        return compose("predict", given)


def generate(folder: Path, count: int, short: int, seed: int) -> None:
    """JPEG files of several shapes, smooth as photographs are; their short side is ``short``."""
    generator = np.random.default_rng(seed)
    folder.mkdir()
    for number in range(count):
        coarse = generator.integers(0, 256, (8, 10, 3), dtype=np.uint8)
        wide = short + int(generator.integers(0, short // 2))
        image = Image.fromarray(coarse).resize((wide, short), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:06}.jpg", quality=90)


def resident() -> float:
    """Memory of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def bare(guard: Guard, count: int, batch_size: int) -> float:
    """Seconds that the guard alone takes for ``count`` images."""
    size = guard.defense.size
    images = torch.randint(0, 256, (batch_size, 3, size, size), dtype=torch.uint8)
    started = time.perf_counter()
    for first in range(0, count, batch_size):
        part = images[: count - first].to(guard.network.mean.device)
        guard.inspect(part).logits.cpu()
    return time.perf_counter() - started


def main() -> None:
    """Print both rates, their ratio and the memory, round by round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--defense", type=Path, required=True)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    cfg = config(arguments.defense, arguments.network)
    guard = Guard.load(cfg.defense, build(cfg.network)).to(pick_device(cfg.accelerator))
    read, names = reader(guard, None), read_names(None, guard)
    workers = os.cpu_count() or 1
    short = read.keywords["short"]
    ratios, memory = [], []
    with tempfile.TemporaryDirectory() as place, Path(place, "part").open("a", buffering=1) as file:
        for number in range(-(-arguments.images // ROUND) + 1):
            count = min(ROUND, arguments.images - ROUND * (number - 1)) if number else 200
            folder = Path(place, f"{number:03}")
            generate(folder, count, short, number)
            alone = bare(guard, count, cfg.batch_size)
            started = time.perf_counter()
            for row in rows(guard, folder, read, names, cfg.batch_size, workers):
                append(file, row, folder)
            seconds = time.perf_counter() - started
            if not number:  # the first round warms up
                continue
            ratios.append(alone / seconds)
            memory.append(resident())
            print(
                f"{count} images: guard {count / alone:.1f} a second, predict "
                f"{count / seconds:.1f}: {ratios[-1]:.3f}; memory {memory[-1]:.0f} MB",
                flush=True,
            )
    print(f"predict / guard, median of {len(ratios)}: {statistics.median(ratios):.3f}")
    print(f"memory after the first round {memory[0]:.0f} MB, after the last {memory[-1]:.0f} MB")


if __name__ == "__main__":
    main()
