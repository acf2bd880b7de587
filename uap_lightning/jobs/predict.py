"""Classify a folder through a defence: ``python -m uap_lightning.predict images=FOLDER``.

Each image becomes upright 8-bit RGB (:func:`~uap_lightning.data.decoding.to_rgb`), its short side
is resized as in training, and its centre is cropped to the defence's size. One row a file goes to a
CSV or JSON Lines file, in the order of the folder; a file that is no image has a row that says why.
Interrupted or killed, the same command goes on from the rows in ``OUTPUT.part``. The images are
classified by this process, or by the workers of Ray Data (``engine=ray``).
"""

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from omegaconf import DictConfig

from uap_lightning.core.device import pick_device
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of
from uap_lightning.core.terminal import progress_bar
from uap_lightning.data.decoding import Pixels
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.classify import decoded, files_below, judged, read_names, reader, rows
from uap_lightning.jobs.config import build, typed
from uap_lightning.jobs.export import check_output
from uap_lightning.jobs.listing import Listing
from uap_lightning.jobs.on_ray import answers, connect
from uap_lightning.jobs.part import Row, append, keep_rows, open_part, publish
from uap_lightning.jobs.schema import PredictConfig

log = logging.getLogger(__name__)


def predict(composed: DictConfig) -> None:
    """Classify every file below a folder through a trained defence."""
    cfg = typed(composed, PredictConfig)
    output, root = Path(cfg.output), Path(cfg.images)
    if cfg.engine == "ray":  # workers on other machines start in other folders
        root, cfg.defense = root.absolute(), str(Path(cfg.defense).absolute())
    check_output(output, (".csv", ".jsonl"), overwrite=cfg.overwrite)
    if root.resolve() in output.resolve().parents:
        raise UapError(
            f"output is {output}, a file among the images: give a place outside of {root}, or the "
            "next run would take it for an image."
        )
    count = sum(1 for _ in files_below(root))
    if not count:
        raise UapError(f"images is {root}, which holds no file: give a folder of images.")
    if cfg.engine == "ray":
        connect(workers_of(cfg))
    guard = Guard.load(cfg.defense, build(cfg.network)).to(device_of(cfg))
    read = reader(guard, cfg.resize)
    names = read_names(cfg.class_names, guard)
    parent = root if root.is_dir() else root.parent
    settings = digest_of(
        [guard.defense.digest, guard.network.digest, str(root.resolve()), read.keywords, names]
    )
    with open_part(output) as part:
        # Another process may have written it while this one loaded the guard.
        check_output(output, (".csv", ".jsonl"), overwrite=cfg.overwrite)
        kept = keep_rows(part, settings, files_below(root), parent, cfg.batch_size)
        if kept:
            log.info("Going on from %s: %d of %d files are done", part, kept, count)
        with part.open("a", buffering=1) as file, progress_bar() as bar:
            task = bar.add_task("Classifying", total=count, completed=kept)
            for row in found_rows(cfg, guard, root, read, names, kept):
                append(file, row, parent)
                bar.advance(task)
        failed = publish(part, output)
    log.info("Wrote %s: %d files, %d of them not read (column error)", output, count, failed)


def device_of(cfg: PredictConfig) -> torch.device:
    """Where a guard computes: several workers of Ray would share a GPU that none asked for."""
    return pick_device("cpu" if cfg.engine == "ray" else cfg.accelerator)


def workers_of(cfg: PredictConfig) -> int:
    """Threads that decode, or actors of Ray."""
    return cfg.num_workers or os.cpu_count() or 1


def found_rows(
    cfg: PredictConfig,
    guard: Guard,
    root: Path,
    read: Callable[[Path], Pixels],
    names: list[str],
    skip: int,
) -> Iterator[Row]:
    """The rows of all files but the first ``skip``, from this process or from Ray's workers."""
    if cfg.engine == "local":
        yield from rows(guard, root, read, names, cfg.batch_size, workers_of(cfg), skip)
        return
    # Beside the output, which workers on other machines see too.
    with TemporaryDirectory(dir=Path(cfg.output).absolute().parent, prefix=".names-") as folder:
        listing = Listing(root, Path(folder, "names"))
        batches = -(-(len(listing) - skip) // cfg.batch_size)
        each = partial(judging, cfg, listing, root, read, names, skip)
        for found in answers(each, batches, workers_of(cfg)):
            yield from found


def judging(
    cfg: PredictConfig,
    listing: Listing,
    root: Path,
    read: Callable[[Path], Pixels],
    names: list[str],
    skip: int,
) -> Callable[[int], list[Row]]:
    """Reads a batch by its number and gives its rows, in a worker that has a guard of its own."""
    guard = Guard.load(cfg.defense, build(cfg.network)).to(device_of(cfg))
    parent = root if root.is_dir() else root.parent
    numbers = listing.order(None)[skip:]

    def answer(number: int) -> list[Row]:
        first = number * cfg.batch_size
        files = listing.paths(numbers[first : first + cfg.batch_size])
        [batch] = decoded(files, read, cfg.batch_size, 1)
        return judged(guard, batch, names, parent)

    return answer
