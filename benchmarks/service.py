"""What a request costs on top of the guard, and whether the service stays level.

In one run: the guard in a loop over batches of 16 that lie in memory, then ``uap_lightning.serve``
under as many requests at once as ``--clients``, in rounds of 1,000, of which one in ten carries one
universal pattern. Arrays are sent, so that decoding is not measured, by a client that costs little,
because it runs on the same processor. The guard in the loop has found the pattern beforehand, as
the service has from its second round on.

    python benchmarks/service.py --defense outputs/quickstart/defense --requests 10000
"""

import argparse
import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from uap_lightning.guard.guard import Guard
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.jobs.serve import check_port
from uap_lightning.networks.efficientnet_lite import efficientnet_lite
from uap_lightning.streams.store import PatternStore

ROUND = 1_000
BATCH = 16


def images(count: int, size: int, seed: int) -> torch.Tensor:
    """Smooth random images, one in ten with a pattern of random signs: uint8 N x 3 x H x W."""
    chance = torch.Generator().manual_seed(seed)
    coarse = 255 * torch.rand(count, 3, 8, 8, generator=chance)
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    smooth += 4 * torch.randn(smooth.shape, generator=chance)
    pattern = 10 * torch.randn(3, size, size, generator=torch.Generator().manual_seed(0)).sign()
    smooth[::10] += pattern
    return smooth.round().clamp(0, 255).to(torch.uint8)


def alone(guard: StreamGuard, given: torch.Tensor) -> float:
    """Images a second of the guard with memory in a loop."""
    started = time.perf_counter()
    for batch in torch.split(given, BATCH):
        guard(batch)
    return len(given) / (time.perf_counter() - started)


def array(image: torch.Tensor) -> bytes:
    """An image as the body of a request."""
    buffer = io.BytesIO()
    np.save(buffer, image.permute(1, 2, 0).numpy())
    return buffer.getvalue()


def resident(process: int) -> float:
    """Memory of a process and all below it, in MB."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = os.getpgid(int(folder.name))
            if group == process:
                pages += int((folder / "statm").read_text().split()[1])
        except (OSError, ProcessLookupError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Print rates, their ratio, latencies and memory, round by round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--defense", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--port", type=int, default=8765)
    arguments = parser.parse_args()
    check_port("127.0.0.1", arguments.port)
    # As a worker has them.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // arguments.workers))
    guard = Guard.load(arguments.defense, efficientnet_lite(0))
    size = guard.defense.size
    with tempfile.TemporaryDirectory() as place:
        remembering = StreamGuard(guard, store=PatternStore(f"{place}/alone", size))
        for seed in range(3):
            alone(remembering, images(ROUND // 2, size, seed))
        words = [f"port={arguments.port}", f"store={place}/served", f"workers={arguments.workers}"]
        words += [f"defense={arguments.defense}", "network=efficientnet_lite0"]
        process = subprocess.Popen(
            [sys.executable, "-m", "uap_lightning.serve", *words], start_new_session=True
        )
        try:
            client = Client(arguments.port)
            with ThreadPoolExecutor(arguments.clients) as pool:
                wait(client, process)
                measure(arguments, remembering, client, pool, process.pid)
        finally:
            process.terminate()
            process.wait()


class Client(threading.local):
    """A connection of each thread that is kept open.

    Args:
        port: of the service.
    """

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of an answer."""
        try:
            self.connection.request(method, path, body)
            answer = self.connection.getresponse()
        except (OSError, http.client.HTTPException):
            # The service closes what has been silent for some seconds.
            self.connection.close()
            self.connection.request(method, path, body)
            answer = self.connection.getresponse()
        return answer.status, answer.read()


def wait(client: Client, process: subprocess.Popen[bytes]) -> None:
    """Until the service is ready.

    Raises:
        SystemExit: it has ended.
    """
    while process.poll() is None:
        try:
            if client.ask("GET", "/health")[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            client.connection.close()
        time.sleep(0.2)
    raise SystemExit("the service did not start.")


def measure(
    arguments: argparse.Namespace,
    guard: StreamGuard,
    client: Client,
    pool: ThreadPoolExecutor,
    process: int,
) -> None:
    """Rounds of both, in turns."""
    size = guard.whitener.size

    def ask(body: bytes) -> tuple[float, int, bool]:
        started = time.perf_counter()
        status, answer = client.ask("POST", "/predict", body)
        seconds = time.perf_counter() - started
        return seconds, status, status == 200 and json.loads(answer)["pattern"] is not None

    ratios, latencies, memory = [], [], []
    for number in range(-(-arguments.requests // ROUND) + 1):
        given = images(ROUND if number else 64, size, 2 + number)
        by_itself = alone(guard, given[: 20 * BATCH])
        bodies = [array(image) for image in given]
        started = time.perf_counter()
        answers = list(pool.map(ask, bodies))
        served = len(bodies) / (time.perf_counter() - started)
        if not number:  # the first round warms up
            continue
        seconds = sorted(taken for taken, _, _ in answers)
        ratios.append(served / by_itself)
        latencies.append(seconds[int(0.99 * len(seconds))])
        memory.append(resident(process))
        good = sum(status == 200 for _, status, _ in answers)
        known = sum(found for _, _, found in answers)
        print(
            f"guard {by_itself:.1f} a second, served {served:.1f}: {ratios[-1]:.3f}; half within "
            f"{seconds[len(seconds) // 2]:.3f} s, 99 of 100 within {latencies[-1]:.3f} s; "
            f"{good} answered, pattern named in {known}; memory {memory[-1]:.0f} MB",
            flush=True,
        )
    print(f"served / guard, median of {len(ratios)}: {statistics.median(ratios):.3f}")
    print(f"99 of 100 within: first round {latencies[0]:.3f} s, last {latencies[-1]:.3f} s")
    print(f"memory: first round {memory[0]:.0f} MB, last {memory[-1]:.0f} MB")


if __name__ == "__main__":
    main()
