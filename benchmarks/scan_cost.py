"""What a scan costs an image: reading, whitening and matching, and comparing with 20,000 others.

The first two are what every worker does to every image; the third is done to each image that is
searched, by one process. One thread, processor time:

    python benchmarks/scan_cost.py FOLDER --size 224
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from uap_lightning.jobs.classify import Files
from uap_lightning.jobs.scanning.aligned import Aligned
from uap_lightning.jobs.scanning.looking import Look
from uap_lightning.streams.discovery import Discovery
from uap_lightning.streams.search import FEWEST, LEAST_PAIR, MEMORY, Filters, draw_sample
from uap_lightning.streams.sketches import BITS, sketch_scores
from uap_lightning.streams.whitening import Whitener


def milliseconds(run: Callable[[], object], count: int) -> float:
    """Processor time of a call, over so many images."""
    started = time.process_time()
    run()
    return 1e3 * (time.process_time() - started) / count


@torch.no_grad()
def main() -> None:
    """Print milliseconds an image of each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of at least 12 photographs")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--known", type=int, default=3, help="patterns that are matched")
    parser.add_argument("--images", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = sorted(path for path in options.folder.rglob("*") if path.is_file())[: options.images]
    aligned, read = Aligned(options.size, "resize"), Files()
    reading = milliseconds(lambda: read.extend((path, aligned(path)) for path in files), len(files))
    batches = [read[i : i + options.batch] for i in range(0, len(read), options.batch)]
    whitener = Whitener(options.size)
    look = Look(Filters(whitener, [], 1e-4))
    whitener.fit(
        draw_sample((look(batch).images for batch in batches), max(FEWEST, len(read) // 2))
    )
    known = torch.nn.functional.normalize(torch.randn(options.known, whitener.dimension))
    look = Look(Filters(whitener, [*known], 1e-4))
    seen = look(batches[0])  # the first one warms up
    looking = milliseconds(lambda: [look(batch) for batch in batches], len(read))
    discovery = Discovery(whitener, 1e-4, MEMORY, 1, LEAST_PAIR)
    placing = milliseconds(lambda: discovery.observe(seen.images, seen.residuals), len(seen.images))
    memory = np.zeros((MEMORY, BITS // 64), np.uint64)
    searching = milliseconds(lambda: [sketch_scores(memory[:1], memory) for _ in range(50)], 50)
    for part, taken in (
        ("reading", reading),
        ("whitening and matching", looking),
        (f"comparing with {MEMORY:,}", placing + searching),
    ):
        print(json.dumps({"part": part, "ms an image": round(taken, 2)}))


if __name__ == "__main__":
    main()
