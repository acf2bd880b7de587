"""Is one pattern in many images? ``python -m uap_lightning.scan images=FOLDER output=OUT``.

Images are brought to one size (:class:`~uap_lightning.jobs.aligned.Aligned`) and read two or three
times: a random sample for the statistics of this very folder, all in random order to find patterns,
once more where the pixels of too many were gone by then, and all in order to say who carries them.
"""

import csv
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from uap_lightning.core.device import pick_device
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically
from uap_lightning.core.terminal import progress_bar
from uap_lightning.jobs.aligned import Aligned
from uap_lightning.jobs.classify import decoded, files_below
from uap_lightning.jobs.config import build, typed
from uap_lightning.jobs.listing import Listing
from uap_lightning.jobs.part import cell, name_of, open_part
from uap_lightning.jobs.schema import ScanConfig
from uap_lightning.networks import TargetNetwork
from uap_lightning.results.pictures import data_uri
from uap_lightning.results.scan_page import CarriedPattern, Example, ScanSummary, render_scan
from uap_lightning.streams.power import LEVELS, smallest_found
from uap_lightning.streams.search import (
    Filters,
    Pattern,
    complete,
    discover,
    draw_sample,
    found_patterns,
    incomplete,
    known_patterns,
    pair_threshold,
    sample_size,
)
from uap_lightning.streams.store import Known, PatternStore
from uap_lightning.streams.verification import kind_of, verify
from uap_lightning.streams.whitening import Whitener

log = logging.getLogger(__name__)

_REFERENCES = 64  # images that patterns are verified on
_POWER = 16  # images that the power is computed on
_EXAMPLES = 3  # images of a pattern that the page shows
_GRAINS = (1, 4)  # squares of random signs that the power is stated for
_MADE = ("files.csv", "index.html")  # what tells that a folder is an earlier scan's


@dataclass
class _Search:
    """What the stages of a scan share."""

    cfg: ScanConfig
    root: Path
    part: Path
    listing: Listing
    read: Aligned
    whitener: Whitener
    network: TargetNetwork | None
    notes: list[str] = field(default_factory=list)

    def images(self, task: str) -> Iterator[Tensor]:
        """Batches of the images in random order, those that cannot be read left out."""
        files = self.listing.shuffled(self.cfg.seed)
        with progress_bar() as bar:
            shown = bar.add_task(task, total=len(self.listing))
            for batch in self.decoded(files):
                bar.advance(shown, len(batch))
                if crops := [found for _, found in batch if not isinstance(found, str)]:
                    yield _tensor(crops)

    def decoded(self, files: Iterator[Path]) -> Iterator[list[tuple[Path, np.ndarray | str]]]:
        """Batches of files with what is compared of each, or why there is nothing."""
        workers = self.cfg.num_workers or os.cpu_count() or 1
        return decoded(files, self.read, self.cfg.batch_size, workers)


def scan(composed: DictConfig) -> None:
    """Find every pattern that images of a folder share, and say who carries which.

    Raises:
        UapError: there are too few images, or a place cannot be read or written.
    """
    cfg = typed(composed, ScanConfig)
    root, output = Path(cfg.images), Path(cfg.output)
    _check_places(cfg)
    known = _read_known(cfg)
    device = pick_device(cfg.accelerator)
    network = None if cfg.network is None else build(cfg.network, TargetNetwork).to(device)
    if network is not None:
        network.classes(cfg.size)  # refuses a size that the network does not take
    with open_part(output) as part:
        _check_places(cfg)  # another process may have written it
        if part.exists():
            shutil.rmtree(part)
        part.mkdir()
        try:
            listing = Listing(root, part / "names")
            if not len(listing):
                raise UapError(f"images is {root}, which holds no file: give a folder of images.")
            whitener = Whitener(cfg.size).to(device)
            read = Aligned(cfg.size, cfg.fit)
            search = _Search(cfg, root, part, listing, read, whitener, network)
            said = _run(search, known)
            (part / "names").unlink()
            _publish(part, output)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    for sentence in said:
        log.info("%s", sentence)
    log.info("Wrote %s: open %s", output, output / "index.html")


def _run(search: _Search, known: list[Known]) -> list[str]:
    """All stages; returns what to tell at the end."""
    cfg, whitener = search.cfg, search.whitener
    sample = draw_sample(search.images("Statistics"), sample_size(cfg.size))
    whitener.fit(sample, shifted=True)
    stored = known_patterns(whitener, known)
    suspects = discover(whitener, search.images("Searching"), stored, cfg.rate)
    if incomplete(suspects):
        complete(whitener, search.images("Estimating"), suspects, cfg.rate)
    if len(search.read.sizes) > 1:
        search.notes.append(_several_sizes(search.read, cfg.size))
    patterns = [*stored, *found_patterns(suspects)]
    filters = Filters(whitener, [pattern.template for pattern in patterns], cfg.rate)
    clean, cleaned = _without(sample.to(whitener.power.device), patterns, filters, whitener)
    carried = [
        _described(search, f"{number:03}", pattern, cleaned)
        for number, pattern in enumerate(patterns, start=1)
    ]
    failed, written = _write_files(search, patterns, filters, carried)
    pairs = [(pattern, one) for pattern, one in zip(patterns, carried, strict=True) if one.images]
    _write_patterns(search, pairs)
    shown = [one for _, one in pairs]
    power = _power(search, clean)
    summary = ScanSummary(
        folder=str(search.root),
        files=len(search.listing),
        failed=failed,
        known=len(known),
        power=power,
        notes=search.notes,
        cleaned=written if cfg.clean else None,
        settings={
            "size": cfg.size,
            "fit": cfg.fit,
            "rate": cfg.rate,
            "seed": cfg.seed,
            "network": "none" if search.network is None else search.network.name,
            "known patterns": len(known),
        },
    )
    page = render_scan(summary, shown).encode("utf-8", "replace")
    write_atomically(search.part / "index.html", page)
    return [*search.notes, *_sentences(summary, shown)]


def _without(
    sample: Tensor, patterns: list[Pattern], filters: Filters, whitener: Whitener
) -> tuple[Tensor, Tensor]:
    """Images of the sample that carry no pattern; and some with what they carry subtracted."""
    chosen = sample[:_REFERENCES]
    with torch.no_grad():
        found, _ = filters.match(whitener(chosen))
    clean = chosen[[place for place, which in enumerate(found) if which < 0]]
    cleaned = [
        image.float() if which < 0 else _subtracted(image, patterns[which]).float()
        for image, which in zip(chosen, found, strict=True)
    ]
    return clean, torch.stack(cleaned)


def _subtracted(image: Tensor, pattern: Pattern) -> Tensor:
    return (image.float() - pattern.rho).round().clamp(0, 255).to(torch.uint8)


def _described(search: _Search, name: str, pattern: Pattern, references: Tensor) -> CarriedPattern:
    """What is known of a pattern before anybody looks who carries it."""
    network = search.network
    verdict, kind = None, kind_of(pattern.rho)
    if network is None and kind == "without effect":
        kind = "of unknown effect"  # nobody has looked
    if network is not None:

        def predict(images: Tensor) -> Tensor:
            return torch.cat([network(batch).argmax(1) for batch in torch.split(images, 32)])

        verdict = verify(predict, pattern.rho, references)
    return CarriedPattern(
        name=name,
        source=pattern.source,
        kind=kind if verdict is None else verdict.kind,
        harmful=None if verdict is None else verdict.harmful,
        changed=None if verdict is None else verdict.changed,
        control=None if verdict is None else verdict.control,
        estimated=pattern.estimated,
        linf=float(pattern.rho.abs().max()),
        l2=float(pattern.rho.norm()),
        picture=data_uri(_amplified(pattern.rho)),
    )


@torch.no_grad()
def _write_files(
    search: _Search, patterns: list[Pattern], filters: Filters, carried: list[CarriedPattern]
) -> tuple[int, int]:
    """Write ``files.csv`` and ``clean/``; returns the files that failed and those cleaned."""
    failed = written = 0
    parent = search.root if search.root.is_dir() else search.root.parent
    place = search.part / "files.csv"
    # Names of files need not be valid text: their bytes are kept.
    with (
        place.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        progress_bar() as bar,
    ):
        table = csv.writer(file)
        table.writerow(("file", "pattern", "score", "error"))
        shown = bar.add_task("Matching", total=len(search.listing))
        for batch in search.decoded(files_below(search.root)):
            bar.advance(shown, len(batch))
            crops = [found for _, found in batch if not isinstance(found, str)]
            answers: Iterable[tuple[Tensor, int, float]] = ()
            if crops:
                images = _tensor(crops).to(search.whitener.power.device)
                answers = zip(images, *filters.match(search.whitener(images)), strict=True)
            answer = iter(answers)
            for path, found in batch:
                name = name_of(path, parent)
                if isinstance(found, str):
                    failed += 1
                    table.writerow((cell(name), "", "", cell(found)))
                    continue
                image, which, score = next(answer)
                pattern = carried[which].name if which >= 0 else ""
                table.writerow((cell(name), pattern, f"{score:.2f}" if patterns else "", ""))
                if which < 0:
                    continue
                one = carried[which]
                one.images += 1
                after = _subtracted(image, patterns[which])
                if len(one.examples) < _EXAMPLES:
                    uris = (data_uri(_picture(image)), data_uri(_picture(after)))
                    one.examples.append(Example(name, *uris))
                # What does no harm, such as a watermark, is left alone.
                if search.cfg.clean and one.harmful is not False:
                    target = search.part / "clean" / f"{name}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _picture(after).save(target, "PNG")
                    written += 1
    return failed, written


def _write_patterns(search: _Search, pairs: list[tuple[Pattern, CarriedPattern]]) -> None:
    """Write ``patterns/`` and ``patterns.csv``."""
    store = PatternStore(search.part / "patterns", search.cfg.size)
    network = "" if search.network is None else search.network.name
    with (search.part / "patterns.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        columns = ("images", "estimated", "linf", "l2", "kind", "changed", "control")
        table.writerow(("pattern", "source", *columns))
        for pattern, one in pairs:
            source = "found" if one.source is None else f"known: {one.source}"
            provenance = {"images": one.images, "estimated": one.estimated, "source": source}
            store.add(pattern.rho, one.name, network, provenance)
            _amplified(pattern.rho).save(store.folder / f"{one.name}.png", "PNG")
            size = (one.images, one.estimated, f"{one.linf:.2f}", f"{one.l2:.1f}", one.kind)
            shares = ["" if s is None else f"{s:.3f}" for s in (one.changed, one.control)]
            table.writerow((one.name, cell(source), *size, *shares))


def _power(search: _Search, clean: Tensor) -> str:
    """In one sentence, what a search of these images would have found."""
    if len(clean) < 2:
        return ""
    threshold = pair_threshold(search.whitener, search.cfg.rate, len(search.listing))
    said = []
    for grain in _GRAINS:
        level = smallest_found(search.whitener, clean[:_POWER], threshold, grain)
        least = f"not up to ξ = {LEVELS[-1]}" if level is None else f"from ξ = {level} on"
        said.append(f"{least} where a sign fills {grain} x {grain} pixels")
    return (
        "Power, measured on images of this folder: any two that carry a pattern of random signs "
        f"would have been found {', '.join(said)}; smoother patterns are harder to find."
    )


def _sentences(summary: ScanSummary, patterns: list[CarriedPattern]) -> list[str]:
    """What the terminal tells at the end."""
    compared = summary.files - summary.failed
    failed = f" ({summary.failed} more could not be compared)" if summary.failed else ""
    if not patterns:
        return [f"None found: no pattern in {compared} images{failed}.", summary.power]
    carried = sum(pattern.images for pattern in patterns)
    said = [f"Found {_counted(len(patterns))} in {carried} of {compared} images{failed}."]
    for one in patterns:
        source = f"estimated from {one.estimated}" if one.source is None else f"known: {one.source}"
        effect = "" if one.changed is None else f", changes {one.changed:.0%} of predictions"
        said.append(f"Pattern {one.name} in {one.images} images ({source}): {one.kind}{effect}.")
    return said


def _counted(count: int) -> str:
    return "1 pattern" if count == 1 else f"{count} patterns"


def _several_sizes(read: Aligned, size: int) -> str:
    ordered = sorted(read.sizes)
    shown = " to ".join(f"{width} x {height}" for width, height in (ordered[0], ordered[-1]))
    done = f"resized to a short side of {size}" if read.fit == "resize" else "cropped"
    return (
        f"Images have several sizes ({shown}), and each was {done}: a pattern that was added "
        "before is found among images of one size only; scan each size alone to be sure."
    )


def _check_places(cfg: ScanConfig) -> None:
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
    if held and not set(_MADE) <= set(held):
        raise UapError(f"{output} holds {held[0]} and no earlier scan: give another output.")


def _read_known(cfg: ScanConfig) -> list[Known]:
    if cfg.known is None:
        return []
    folder = Path(cfg.known)
    known = PatternStore(folder, cfg.size).known()
    if not known:
        raise UapError(
            f"known is {folder}, which holds no perturbation file of side {cfg.size}: give a bank "
            "of this size, another size, or known=null."
        )
    return known


def _publish(part: Path, output: Path) -> None:
    """Put the whole folder in its place; an earlier one goes only once it stands there."""
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name[:50]}.") as aside:
        if output.exists():
            output.replace(Path(aside) / "earlier")
        part.replace(output)


def _tensor(crops: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).cpu().numpy())


def _amplified(rho: Tensor) -> Image.Image:
    """A pattern as a picture: grey is zero, and all but its largest values are in the range."""
    largest = float(rho.abs().flatten().float().quantile(0.995))
    return _picture(
        (127.5 + 127.5 / max(largest, 1e-6) * rho).round().clamp(0, 255).to(torch.uint8)
    )
