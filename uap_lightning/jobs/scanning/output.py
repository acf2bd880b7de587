"""The folder that a scan writes: whole or not at all, and in nobody's way."""

import csv
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import plain
from uap_lightning.jobs.part import cell, open_part
from uap_lightning.jobs.scanning.looking import Judged, picture
from uap_lightning.jobs.schema import ScanConfig
from uap_lightning.results.pictures import data_uri
from uap_lightning.results.scan_page import CarriedPattern, Example
from uap_lightning.streams.search import Pattern
from uap_lightning.streams.store import PatternStore

_EXAMPLES = 3  # images of a pattern that the page shows
_MADE = {"files.csv", "index.html"}  # what tells that a folder is an earlier scan's


def check_places(cfg: ScanConfig) -> None:
    """Refuse an output that would hide among the images, or replace something else."""
    output = Path(cfg.output)
    if output.name in ("", ".."):
        raise UapError(f"output is {cfg.output or 'empty'}: expected a name for a new folder.")
    here, images = output.resolve(), Path(cfg.images).resolve()
    if images == here or images in here.parents:
        raise UapError(f"output is {output}, among the images: give a place outside of {images}.")
    for key, value in (("images", cfg.images), ("known", cfg.known)):
        if value is not None and here in (Path(value).resolve(), *Path(value).resolve().parents):
            raise UapError(f"{key} is {value}, within output={output}: give another output.")
    if output.exists() and not output.is_dir():
        raise UapError(f"output is {output}, which is a file: give a new folder.")
    held = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if held and not cfg.overwrite:
        raise UapError(
            f"{output} is not empty: give another output, or replace it by overwrite=true."
        )
    if held and not set(held) >= _MADE:
        raise UapError(f"{output} holds {held[0]} and no earlier scan: give another output.")


@contextmanager
def new_folder(cfg: ScanConfig) -> Iterator[Path]:
    """A folder beside ``output`` that takes its place once everything is written.

    Raises:
        UapError: the place is taken, or cannot be written; nothing is left behind.
    """
    output = Path(cfg.output)
    with open_part(output) as part:
        check_places(cfg)  # another process may have written it
        if part.exists():
            shutil.rmtree(part)
        part.mkdir()
        try:
            yield part
            _publish(part, output)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _publish(part: Path, output: Path) -> None:
    """Put the whole folder in its place; an earlier one goes only once it stands there."""
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name[:50]}.") as aside:
        if output.exists():
            output.replace(Path(aside) / "earlier")
        part.replace(output)


def write_files(
    judged: Iterable[Sequence[Judged]], carried: Sequence[CarriedPattern], part: Path
) -> int:
    """Write ``files.csv``; returns how many files could not be compared.

    Args:
        judged: all files, in the order of the folder.
        carried: what is known of each pattern; images that carry it are counted here.
        part: the folder to write to.
    """
    failed = 0
    # Names of files need not be valid text: their bytes are kept.
    place = part / "files.csv"
    with place.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "pattern", "score", "error"))
        for batch in judged:
            for one in batch:
                failed += bool(one.error)
                name = "" if one.which < 0 else carried[one.which].name
                score = "" if one.error or not carried else f"{one.score:.2f}"
                table.writerow((cell(one.name), name, score, cell(one.error)))
                _count(carried, one)
    return failed


def _count(carried: Sequence[CarriedPattern], one: Judged) -> None:
    if one.before is None or one.after is None:
        return
    pattern = carried[one.which]
    pattern.images += 1
    if len(pattern.examples) < _EXAMPLES:
        before, after = data_uri(picture(one.before)), data_uri(picture(one.after))
        pattern.examples.append(Example(one.name, before, after))


def write_patterns(
    part: Path, size: int, network: str, pairs: Sequence[tuple[Pattern, CarriedPattern]]
) -> None:
    """Write ``patterns/`` and ``patterns.csv``.

    Args:
        part: the folder to write to.
        size: side of the patterns.
        network: that they were verified against; empty for none.
        pairs: of those that images carry.
    """
    store = PatternStore(part / "patterns", size)
    with (part / "patterns.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        columns = ("images", "estimated", "linf", "l2", "kind", "changed", "control")
        table.writerow(("pattern", "source", *columns))
        for pattern, one in pairs:
            source = "found" if one.source is None else f"known: {plain(one.source)}"
            provenance = {"images": one.images, "estimated": one.estimated, "source": source}
            store.add(pattern.rho, one.name, network, provenance)
            amplified(pattern.rho).save(store.folder / f"{one.name}.png", "PNG")
            shares = ["" if s is None else f"{s:.3f}" for s in (one.changed, one.control)]
            size_of = (f"{one.linf:.2f}", f"{one.l2:.1f}")
            table.writerow(
                (one.name, cell(source), one.images, one.estimated, *size_of, one.kind, *shares)
            )


def amplified(rho: Tensor) -> Image.Image:
    """A pattern as a picture: grey is zero, and all but its largest values are in the range."""
    largest = float(rho.abs().flatten().float().quantile(0.995))
    return picture((127.5 + 127.5 / max(largest, 1e-6) * rho).round().clamp(0, 255).to(torch.uint8))
