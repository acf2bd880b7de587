"""What the guard with memory adds to an image, as shares of the network's own time.

Whitening, matching and search are timed in turn with the network, in one run on one machine:

    python benchmarks/stream_cost.py --size 224 --batch 32 --known 10 --memory 2048
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from uap_lightning.networks.efficientnet_lite import efficientnet_lite
from uap_lightning.streams.matching import scores
from uap_lightning.streams.sketches import BITS, DESCRIBED, sketch, sketch_scores
from uap_lightning.streams.whitening import Whitener


@torch.no_grad()
def main() -> None:
    """Print milliseconds an image of each part, and their share of the network's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--known", type=int, default=10, help="patterns that are searched for")
    parser.add_argument("--memory", type=int, default=2_048, help="sketches in memory")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, 3, options.size, options.size)
    images = torch.randint(0, 256, shape, generator=generator).float()
    network = efficientnet_lite(0).eval()
    whitener = Whitener(options.size)
    residuals, described = whitener.describe(images)
    normalise = torch.nn.functional.normalize
    filters = normalise(torch.randn(options.known, residuals.shape[1]))
    moved = normalise(torch.randn(options.known, described.shape[1]))
    generated = np.random.default_rng(0)
    memory, places = (
        generated.integers(0, 2**63, (options.memory, bits // 64), np.uint64)
        for bits in (BITS, DESCRIBED)
    )
    parts: dict[str, Callable[[], object]] = {
        "network": lambda: network(images),
        "whitening": lambda: whitener(images),
        "whitening and description": lambda: whitener.describe(images),
        "matching": lambda: (scores(residuals, filters), scores(described, moved)),
        "sketch and search": lambda: sketch_scores(sketch(residuals), memory),
        "the same of descriptions": lambda: sketch_scores(sketch(described, DESCRIBED), places),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(options.rounds + 1):
        for name, run in parts.items():
            started = time.perf_counter()
            run()
            if number:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    for name, taken in medians.items():
        row = {"part": name, "ms an image": round(1e3 * taken / options.batch, 2)}
        print(json.dumps({**row, "share of the network": round(taken / medians["network"], 3)}))


if __name__ == "__main__":
    main()
