"""What the guard costs: milliseconds and memory an image, against the bare network.

The detector judges what the rectifier removes, so every image passes the rectifier, and its
cost is the overhead, whether or not the detector fires. Each cell is measured in a process of its
own:

    python benchmarks/guard_latency.py --defense outputs/quickstart/defense
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from uap_lightning.core.device import pick_precision
from uap_lightning.guard.graph import to_onnx, to_program
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.config import build, find_conf, register_schemas

BATCHES = (1, 32)
BF16 = "PyTorch, rectifier in bf16"


def load(defense: str, network: str, *, bf16: bool = False) -> Guard:
    """The guard around a network option of ``conf/network``."""
    register_schemas()
    with initialize_config_dir(find_conf(), version_base="1.3"):
        given = [f"defense={defense}", f"network={network}", "output=none"]
        return Guard.load(defense, build(compose("export", given).network), bf16=bf16)


def status(key: str) -> float:
    """A field of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1e3


def measure(run: Callable[[], object], batch: int, rounds: int, *, cuda: bool) -> dict[str, float]:
    """Median milliseconds and peak memory above the loaded model, both for one image."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    before = status("VmRSS")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 1e6
    seconds = []
    for number in range(rounds + 2):
        started = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize()
        if number >= 2:  # the first ones warm up
            seconds.append(time.perf_counter() - started)
    after = torch.cuda.max_memory_allocated() / 1e6 if cuda else status("VmHWM")
    return {"ms": 1e3 * statistics.median(seconds) / batch, "mb": (after - before) / batch}


def cell(arguments: argparse.Namespace) -> dict[str, float]:
    """One line of the table, in this process."""
    batch, size, cuda = arguments.batch, arguments.size, arguments.device == "cuda"
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, size, size)).astype(np.float32)
    if arguments.runtime == "onnxruntime":
        import onnxruntime

        providers = ["CUDAExecutionProvider" if cuda else "CPUExecutionProvider"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # as many as PyTorch has
        session = onnxruntime.InferenceSession(arguments.file, options, providers=providers)
        return measure(
            lambda: session.run(None, {"images": images}), batch, arguments.rounds, cuda=False
        )
    bf16 = arguments.runtime == BF16
    guard = load(arguments.defense, arguments.network, bf16=bf16).to(arguments.device)
    tensor = torch.from_numpy(images).to(arguments.device)
    run = guard.inspect if arguments.what == "guard" else guard.network.predict
    return measure(lambda: run(tensor), batch, arguments.rounds, cuda=cuda)


def write_files(guard: Guard, folder: Path) -> dict[str, Path]:
    """The guard and its bare network as ONNX files."""
    files = {what: folder / f"{what}.onnx" for what in ("network", "guard")}
    files["guard"].write_bytes(to_onnx(to_program(guard, torch.float32, half=False), {}))
    size = guard.defense.size
    torch.onnx.export(
        guard.network,
        (torch.zeros(2, 3, size, size),),
        str(files["network"]),
        input_names=["images"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return files


def runtimes() -> list[tuple[str, str]]:
    """Runtimes and devices there are here."""
    import onnxruntime

    cuda = torch.cuda.is_available()
    devices = [torch.device("cpu"), *[torch.device("cuda")] * cuda]
    native = [d.type for d in devices if pick_precision("auto", d) == "bf16-mixed"]
    found = [("PyTorch", device.type) for device in devices] + [("onnxruntime", "cpu")]
    found += [(BF16, kind) for kind in native]
    if cuda and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        found.append(("onnxruntime", "cuda"))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--defense", required=True)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--rounds", type=int, default=20)
    for name in ("--runtime", "--what", "--device", "--file"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--batch", "--size"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.what:
        print(json.dumps(cell(arguments)))
        return
    guard = load(arguments.defense, arguments.network)
    table = Table(title=f"{arguments.network}, {guard.defense.size} x {guard.defense.size} pixels")
    for title in (
        "runtime",
        "device",
        "batch",
        "network",
        "guard",
        "overhead",
        "memory",
        "guard's",
    ):
        table.add_column(title, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(guard, Path(folder))
        for runtime, device in runtimes():
            for batch in BATCHES:
                found = {}
                for what, file in files.items():
                    command = [sys.executable, __file__, "--what", what, "--runtime", runtime]
                    command += ["--defense", arguments.defense, "--network", arguments.network]
                    command += ["--rounds", str(arguments.rounds), "--batch", str(batch)]
                    command += ["--size", str(guard.defense.size), "--device", device]
                    command += ["--file", str(file)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    found[what] = json.loads(done.stdout.splitlines()[-1])
                bare, guarded = found["network"], found["guard"]
                table.add_row(
                    runtime,
                    device,
                    str(batch),
                    f"{bare['ms']:.2f} ms",
                    f"{guarded['ms']:.2f} ms",
                    f"x {guarded['ms'] / bare['ms']:.2f}",
                    f"{bare['mb']:.1f} MB",
                    f"{guarded['mb']:.1f} MB",
                )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    console.print(
        f"For one image, median of {arguments.rounds} runs, {torch.get_num_threads()} threads; "
        "memory is the peak above the loaded model. Detection needs the rectifier, so the overhead "
        "is the rectifier's cost, whether or not the detector fires.",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
