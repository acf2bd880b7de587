"""Is one pattern in many images? ``python -m uap_lightning.scan images=FOLDER output=OUT``.

Images are brought to one size and read two or three times: a random sample for the statistics of
this very folder, all in random order to find patterns, once more where the pixels of too many were
gone by then, and all in order to say who carries them.
"""

import logging
import os
from itertools import chain
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from uap_lightning.core.device import pick_device
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically
from uap_lightning.core.terminal import plain
from uap_lightning.jobs.config import build, typed
from uap_lightning.jobs.listing import Listing
from uap_lightning.jobs.scanning.aligned import Aligned
from uap_lightning.jobs.scanning.folder import Folder, Local
from uap_lightning.jobs.scanning.looking import Carriers, Judge, Look, images_of, subtracted
from uap_lightning.jobs.scanning.on_ray import OnRay
from uap_lightning.jobs.scanning.output import (
    amplified,
    check_places,
    new_folder,
    write_files,
    write_patterns,
)
from uap_lightning.jobs.schema import ScanConfig
from uap_lightning.networks import TargetNetwork
from uap_lightning.results.pictures import data_uri
from uap_lightning.results.scan_page import CarriedPattern, ScanSummary, render_scan, sentences
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
_GRAINS = (1, 4)  # squares of random signs that the power is stated for


def scan(composed: DictConfig) -> None:
    """Find every pattern that images of a folder share, and say who carries which.

    Raises:
        UapError: there are too few images, or a place cannot be read or written.
    """
    cfg = typed(composed, ScanConfig)
    check_places(cfg)
    known = _read_known(cfg)
    # Ray's workers share what they compare with, which therefore stays in main memory.
    device = pick_device("cpu" if cfg.engine == "ray" else cfg.accelerator)
    network = None if cfg.network is None else build(cfg.network, TargetNetwork).to(device)
    if network is not None:
        network.classes(cfg.size)  # refuses a size that the network does not take
    # Workers on other machines start in other folders.
    root = Path(cfg.images).absolute() if cfg.engine == "ray" else Path(cfg.images)
    with new_folder(cfg) as part:
        names = part / "names"
        listing = Listing(root, names)
        if not len(listing):
            raise UapError(f"images is {root}, which holds no file: give a folder of images.")
        workers = cfg.num_workers or os.cpu_count() or 1
        aligned = Aligned(cfg.size, cfg.fit)
        folder = Folder(root, listing, aligned, cfg.batch_size, workers)
        engine = OnRay(folder) if cfg.engine == "ray" else Local(folder)
        said = _search(cfg, engine, Whitener(cfg.size).to(device), known, network, part)
        names.unlink()
    page = Path(cfg.output, "index.html")
    for sentence in (*said, f"Wrote {cfg.output}: open {page}"):
        log.info("%s", plain(sentence))


def _search(
    cfg: ScanConfig,
    engine: Local,
    whitener: Whitener,
    known: list[Known],
    network: TargetNetwork | None,
    part: Path,
) -> list[str]:
    """All stages; returns what to tell at the end."""
    # Some hundred images: not worth other machines.
    read = Local(engine.folder).go("Statistics", images_of, cfg.seed)
    sample = draw_sample((batch for batch in read if len(batch)), sample_size(cfg.size))
    whitener.fit(sample, shifted=True)
    stored = known_patterns(whitener, known)
    look = Look(Filters(whitener, [pattern.template for pattern in stored], cfg.rate))
    seen = engine.go("Searching", look, cfg.seed, cfg.searched)
    suspects = discover(whitener, seen, cfg.rate)
    files = len(engine.folder.listing)
    searched = min(files, cfg.searched or files)
    if incomplete(suspects, seen_all=searched == files):
        carry = Carriers(Filters(whitener, [one.template for one in suspects], cfg.rate))
        found = engine.go("Estimating", carry, cfg.seed)
        complete(whitener, chain.from_iterable(found), suspects)
    patterns = [*stored, *found_patterns(suspects)]
    filters = Filters(whitener, [pattern.template for pattern in patterns], cfg.rate)
    clean, cleaned = _without(sample.to(whitener.power.device), patterns, filters, whitener)
    carried = [
        _described(network, f"{number:03}", pattern, cleaned)
        for number, pattern in enumerate(patterns, start=1)
    ]
    # What does no harm, such as a watermark, is left alone.
    left = frozenset(place for place, one in enumerate(carried) if one.harmful is False)
    cleaned_in = part.resolve() / "clean" if cfg.clean else None
    judge = Judge(filters, patterns, left, engine.folder.parent, cleaned_in)
    failed = write_files(engine.go("Matching", judge, None), carried, part)
    written = sum(one.images for place, one in enumerate(carried) if place not in left)
    pairs = [(pattern, one) for pattern, one in zip(patterns, carried, strict=True) if one.images]
    name = "" if network is None else network.name
    write_patterns(part, cfg.size, name, pairs)
    shown = [one for _, one in pairs]
    settings = {key: getattr(cfg, key) for key in ("size", "fit", "rate", "seed")}
    summary = ScanSummary(
        folder=cfg.images,
        files=files,
        failed=failed,
        power=_power(whitener, clean, pair_threshold(whitener, cfg.rate, searched)),
        notes=_notes(engine.folder.read),
        cleaned=written if cfg.clean else None,
        settings={**settings, "network": name or "none", "known patterns": len(known)},
    )
    page = render_scan(summary, shown).encode("utf-8", "replace")
    write_atomically(part / "index.html", page)
    return [*summary.notes, *sentences(summary, shown)]


@torch.no_grad()
def _without(
    sample: Tensor, patterns: list[Pattern], filters: Filters, whitener: Whitener
) -> tuple[Tensor, Tensor]:
    """Images of the sample that carry no pattern; and all, with what they carry subtracted."""
    chosen = sample[:_REFERENCES]
    found, _ = filters.match(whitener(chosen))
    clean = chosen[[place for place, which in enumerate(found) if which < 0]]
    cleaned = [
        image if which < 0 else subtracted(image, patterns[which])
        for image, which in zip(chosen, found, strict=True)
    ]
    return clean, torch.stack(cleaned)


def _described(
    network: TargetNetwork | None, name: str, pattern: Pattern, references: Tensor
) -> CarriedPattern:
    """What is known of a pattern before anybody looks who carries it."""
    verdict, kind = None, kind_of(pattern.rho)
    if network is not None:

        def predict(images: Tensor) -> Tensor:
            return torch.cat([network(batch).argmax(1) for batch in torch.split(images, 32)])

        verdict = verify(predict, pattern.rho, references)
    elif kind == "without effect":
        kind = "of unknown effect"  # nobody has looked
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
        picture=data_uri(amplified(pattern.rho)),
    )


def _power(whitener: Whitener, clean: Tensor, threshold: float) -> str:
    """In one sentence, what a search of these images would have found."""
    if len(clean) < 2:
        return ""
    said = []
    for grain in _GRAINS:
        level = smallest_found(whitener, clean[:_POWER], threshold, grain)
        least = f"not up to ξ = {LEVELS[-1]}" if level is None else f"from ξ = {level} on"
        said.append(f"{least} where a sign fills {grain} x {grain} pixels")
    return (
        "Power, measured on images of this folder: two that carry a pattern of random signs "
        f"would have been found {', '.join(said)}; smoother patterns are harder to find."
    )


def _notes(read: Aligned) -> list[str]:
    """What is to be said of the images."""
    if len(read.sizes) < 2:
        return []
    ordered = sorted(read.sizes)
    shown = " to ".join(f"{width} x {height}" for width, height in (ordered[0], ordered[-1]))
    done = f"resized to a short side of {read.size}" if read.fit == "resize" else "cropped"
    return [
        f"Images have several sizes ({shown}), and each was {done}: a pattern that was added "
        "before is found among images of one size only; scan each size alone to be sure."
    ]


def _read_known(cfg: ScanConfig) -> list[Known]:
    """The patterns that are searched for first.

    Raises:
        UapError: the folder holds none of this size.
    """
    if cfg.known is None:
        return []
    known = PatternStore(Path(cfg.known), cfg.size).known()
    if not known:
        raise UapError(
            f"known is {cfg.known}, which holds no perturbation file of side {cfg.size}: give a "
            "bank of this size, another size, or known=null."
        )
    return known
