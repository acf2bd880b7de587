"""What the commands need for a thousand, ten thousand and a hundred thousand images.

Images are generated into a folder: noise with the spectrum of photographs, PNG. Each command runs
in a process of its own; told are its seconds and the peak of the private memory of it and of the
processes that it starts (pages of the mapped cache are the system's to drop):

    python benchmarks/scale.py FOLDER --counts 1000 10000 100000 --side 64
"""

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch
from torchvision.io import write_png

from uap_lightning.perturbations.procedural import natural_noise

_DISTINCT = 64
_JOBS = ("craft", "train", "train on two", "predict", "predict on Ray", "scan")


def generate(folder: Path, count: int, side: int) -> None:
    """Files 0000000.png and so on: shifted and brightened copies of a few noises."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    noises = [natural_noise(side, generator) for _ in range(_DISTINCT)]
    for number in range(len(list(folder.iterdir())), count):
        draws = torch.randint(side, (3,), generator=generator).tolist()
        moved = noises[number % _DISTINCT].roll(draws[:2], (1, 2))
        image = 100 + draws[2] * 55 / side + 40 * moved
        write_png(image.clamp(0, 255).to(torch.uint8), str(folder / f"{number:07}.png"))


def command(job: str, images: Path, defense: Path, work: Path, side: int) -> list[str]:
    """The words of a job on a folder."""
    places = [f"paths.cache_dir={work}/cache", "overwrite=true"]
    data = ["data=folder", f"data.root={images}", "data.resize=32", "data.crop=32"]
    crops = ["data.train_crops=1", "data.test_crops=1", "data.craft_crops=1"]
    bank = ["bank.train=1", "bank.test=1", "bank.extended=2", "bank.min_fooling_ratio=0"]
    run = ["network=tiny", "norm=linf", *data, *crops, *bank, f"paths.bank_dir={work}/banks"]
    files = [f"images={images}", "num_workers=2", *places]
    answer = ["network=tiny", f"defense={defense}", *files, f"output={work}/labels.csv"]
    small = ["rectifier=prn_residual", "rectifier.model.width=8", "rectifier.training.steps=200"]
    train = ["train", *run, *places, f"hydra.run.dir={work}/train", *small]
    words = {
        "craft": ["craft", *run, *places, f"hydra.run.dir={work}/craft"],
        "train": train,
        "train on two": [*train, "trainer=ddp"],
        "predict": ["predict", *answer],
        "predict on Ray": ["predict", *answer, "engine=ray"],
        "scan": ["scan", *files, f"output={work}/scan", f"size={side}"],
    }[job]
    return [sys.executable, "-m", f"uap_lightning.{words[0]}", *words[1:]]


def private_memory(root: int) -> int:
    """Private memory of a process and of all below it, in MiB (Linux).

    A page that a process shares with one that it started counts once.
    """
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # it has ended
            fields = _fields(status)
            parents[int(fields["Pid"])] = int(fields["PPid"])
    total = 0
    for process in parents:
        above = process
        while above not in (root, 0):
            above = parents.get(above, 0)
        if above == root:
            with suppress(OSError):
                memory = _fields(Path(f"/proc/{process}/smaps_rollup"))
                total += int(memory.get("Pss_Anon", "0 kB").split()[0])
    return total // 1024


def _fields(file: Path) -> dict[str, str]:
    """Lines of a file of /proc that tell a name and a value."""
    lines = (line.split(":", 1) for line in file.read_text().splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}


def measure(words: list[str]) -> tuple[float, int]:
    """Seconds of a command, and the peak of its private memory in MiB."""
    started, peak = time.perf_counter(), 0
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said) as process,
    ):
        while process.poll() is None:
            peak = max(peak, private_memory(process.pid))
            time.sleep(0.2)
        said.seek(0)
        text = said.read().decode()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {text[-500:]}")
    return time.perf_counter() - started, peak


def main() -> None:
    """Print a row of a Markdown table for each job and number of images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--jobs", nargs="+", choices=_JOBS, default=list(_JOBS))
    parser.add_argument("--side", type=int, default=64)
    options = parser.parse_args()
    smallest = options.folder / f"images-64-of-{options.side}"
    generate(smallest, 64, options.side)
    measure(command("train", smallest, Path(), options.folder / "first", options.side))
    defense = options.folder / "first" / "train" / "defense"
    print("| what | images | seconds | memory at most, MiB |")
    print("| --- | ---: | ---: | ---: |")
    for job in options.jobs:
        for count in options.counts:
            images = options.folder / f"images-{count}-of-{options.side}"
            generate(images, count, options.side)
            # Empty, so that nothing is there already.
            with tempfile.TemporaryDirectory(dir=options.folder) as work:
                words = command(job, images, defense, Path(work), options.side)
                seconds, peak = measure(words)
            print(f"| {job} | {count} | {seconds:.1f} | {peak} |", flush=True)


if __name__ == "__main__":
    main()
