"""The unseen matrix: defences against perturbations that nobody showed them.

For each defence and each perturbation (a bank's file, imported ones too) at one strength: what is
left of the clean accuracy when half of the images are perturbed, one image at a time and without
memory, beside the floor (the same with no defence) and with its interval over photographs.
``--defense`` names trained defences, ``--rectifier`` registered rectifiers that need no training
(UAP_TRUST names the module that registers one of your own), ``--seen`` adds the guard with memory,
after so many attacked images. Takes the settings of ``craft`` for network and photographs.

python -m experiments.unseen_attacks --defense RUN/defense --patterns BANKS --strength 1,1.5,2.5 \
    network=efficientnet_lite0 data=imagenet_sample data.root=FOLDER data.test_root=FOLDER \
    data.resize=146 data.crop=128
"""

import argparse
import logging
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch import Tensor

from experiments.defenses import Entry, check_unseen_photographs, cost, entries
from experiments.detection import area, hits
from experiments.render import write_figure
from experiments.stream import curve
from experiments.stream_setting import (
    LEARN,
    Setting,
    answers,
    attacked,
    interval,
    load_setting,
    parse,
    parser,
)
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically, write_json
from uap_lightning.core.terminal import track
from uap_lightning.core.version import __version__
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.config import typed
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.perturbations.bank import identities

log = logging.getLogger(__name__)

_BATCH = 32
_SEED = 0


@dataclass(frozen=True)
class Cell:
    """A defence against one perturbation; all rates in percent.

    Attributes:
        defense: its name.
        pattern: file of the perturbation, below the folder.
        norm: ``2`` or ``inf``, as its record says.
        strength: it was multiplied by this.
        seen: attacked images that a guard with memory met before; None where it has no memory.
        rate: accuracy on mixed images, half of them perturbed, relative to the clean accuracy.
        floor: the same with no defence.
        ci95: of ``rate``, over photographs.
        perturbed: accuracy on the perturbed images alone, relative to clean.
        clean: accuracy on the clean images, relative to clean without a defence.
        detected: share of the perturbed images that the detector, or the memory, finds.
        false_alarms: share of the clean images that the detector takes for perturbed.
        auroc: area under the detector's curve, 0-1; 0.5 is a coin's.
        tpr1: share of the perturbed images that score above all but 1 % of the clean ones.
        tpr5: the same with 5 %.
        n_photographs: tested on.
    """

    defense: str
    pattern: str
    norm: str
    strength: float
    seen: int | None
    rate: float
    floor: float
    ci95: tuple[float, float]
    perturbed: float
    clean: float
    detected: float | None
    false_alarms: float | None
    auroc: float | None
    tpr1: float | None
    tpr5: float | None
    n_photographs: int


@torch.no_grad()
def judged(guard: Guard, images: Tensor) -> tuple[Tensor, Tensor]:
    """The guard's class and the detector's score for each image: int64 N and float N."""
    device, classes, scores = guard.network.mean.device, [], []
    for batch in torch.split(images, _BATCH):
        seen = guard.inspect(batch.to(device).float())
        classes.append(seen.logits.argmax(1).cpu())
        scores.append(seen.score.cpu())
    return torch.cat(classes), torch.cat(scores)


def row(setting: Setting, entry: Entry, strengths: list[float]) -> list[Cell]:
    """A defence against every perturbation at every strength.

    Raises:
        UapError: it was trained on one of them, or on a photograph of the test.
    """
    check_unseen_photographs(entry, setting.tested_on)
    seen = [
        name
        for name, (rho, _) in setting.patterns.items()
        if identities(rho[None])[0] in entry.trained_on
    ]
    if seen:
        raise UapError(
            f"{entry.name} was trained on {seen[0]}, which --patterns holds: expected "
            "perturbations that it has not seen; remove it from the folder."
        )
    guard = Guard(setting.network, entry.rectifier, entry.detector)
    guard.to(setting.network.mean.device).requires_grad_(False)
    images, label = setting.images, setting.label
    plain = answers(setting.network, images.float()) == label
    answer, clean_scores = judged(guard, images)
    kept = answer == label
    cells = []
    for name, (rho, norm) in track(setting.patterns.items(), "Attacking"):
        for strength in strengths if norm == "inf" else [1.0]:
            given = attacked(images, rho * strength)
            fooled = answers(setting.network, given.float()) == label
            answer, scores = judged(guard, given)
            right = answer == label
            cells.append(
                Cell(
                    entry.name,
                    name,
                    norm,
                    strength,
                    None,
                    rate=_relative(kept.double() + right, 2 * plain),
                    floor=_relative(plain.double() + fooled, 2 * plain),
                    ci95=interval(kept.double() + right, 2 * plain, _SEED),
                    perturbed=_relative(right, plain),
                    clean=_relative(kept, plain),
                    detected=100 * float((scores > 0).double().mean()),
                    false_alarms=100 * float((clean_scores > 0).double().mean()),
                    auroc=area(clean_scores, scores),
                    tpr1=100 * hits(clean_scores, scores, 0.01),
                    tpr5=100 * hits(clean_scores, scores, 0.05),
                    n_photographs=len(images),
                )
            )
    return cells


def memory_rows(setting: Setting, strengths: list[float], seen: tuple[int, ...]) -> list[Cell]:
    """The guard with memory against every perturbation, after so many attacked images.

    Clean images are answered as without it, but for false alarms (experiments.stream_protocol).
    """
    cells = []
    for name, (rho, norm) in track(setting.patterns.items(), "Remembering"):
        for strength in strengths if norm == "inf" else [1.0]:
            points = curve(setting, (name, rho, norm, strength), seen, _SEED)
            floor = points[0].relative
            for point in points[2:]:
                low, high = point.ci95
                cells.append(
                    Cell(
                        f"memory, after {point.seen}",
                        name,
                        norm,
                        strength,
                        point.seen,
                        rate=50 + point.relative / 2,
                        floor=50 + floor / 2,
                        ci95=(50 + low / 2, 50 + high / 2),
                        perturbed=point.relative,
                        clean=100.0,
                        detected=point.found,
                        false_alarms=None,
                        auroc=None,
                        tpr1=None,
                        tpr5=None,
                        n_photographs=point.n_photographs,
                    )
                )
    return cells


def _relative(right: Tensor, clean: Tensor) -> float:
    return 100 * float(right.double().sum()) / float(clean.double().sum())


def measure(composed: DictConfig, options: argparse.Namespace) -> None:
    """Measure, and write ``results.json``, ``unseen.md`` and ``unseen.png``."""
    cfg = typed(composed, CraftConfig)
    size = int(cfg.data["crop"])
    compared = entries(options.defense, options.rectifier, size)
    setting = load_setting(cfg, options, LEARN if options.seen else 0)
    cells = [cell for entry in compared for cell in row(setting, entry, options.strength)]
    if options.seen:
        cells += memory_rows(setting, options.strength, options.seen)
    folder = Path(composed.paths.output_dir)
    content = {
        "schema": 1,
        "status": "ok",
        "network": setting.network.name,
        "size": setting.whitener.size,
        "seed": cfg.seed,
        "command": f"python -m experiments.unseen_attacks {options.command}",
        "version": __version__,
        "costs": [asdict(cost(entry, size)) for entry in compared],
        "cells": [asdict(cell) for cell in cells],
    }
    write_json(folder / "results.json", content)
    write_atomically(folder / "unseen.md", markdown(cells).encode())
    write_figure(heat_map(cells), folder / "unseen.png")
    log.info("Wrote %s", folder)


def markdown(cells: list[Cell]) -> str:
    """A line a perturbation and strength, a column a defence; the floor first."""
    rows, columns = _places(cells)
    lines = [f"| Perturbation | times | floor | {' | '.join(columns)} |"]
    lines.append("| --- | ---: | ---: |" + " ---: |" * len(columns))
    for name, strength in rows:
        found = {c.defense: c for c in cells if (c.pattern, c.strength) == (name, strength)}
        told = [
            f"{found[d].rate:.1f} [{found[d].ci95[0]:.1f}, {found[d].ci95[1]:.1f}]"
            if d in found
            else ""
            for d in columns
        ]
        floor = next(iter(found.values())).floor
        lines.append(f"| {name} | {strength:g} | {floor:.1f} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def heat_map(cells: list[Cell]) -> Figure:
    """The rates, a row a perturbation and strength; an empty cell stays empty."""
    rows, columns = _places(cells)
    values = torch.full((len(rows), len(columns) + 1), torch.nan)
    for cell in cells:
        place = rows.index((cell.pattern, cell.strength))
        values[place, 0] = cell.floor
        values[place, 1 + columns.index(cell.defense)] = cell.rate
    size = (2.5 + 1.2 * len(columns), 1.5 + 0.28 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(values.numpy(), cmap="viridis", vmin=50, vmax=100, aspect="auto")
    for down, right in (~values.isnan()).nonzero().tolist():
        value = float(values[down, right])
        shade = "white" if value < 80 else "black"
        axes.text(right, down, f"{value:.0f}", ha="center", va="center", color=shade, size=7)
    axes.set_xticks(range(len(columns) + 1), ["no defence", *columns], rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), [f"{name} x {strength:g}" for name, strength in rows])
    axes.tick_params(labelsize=7)
    figure.colorbar(drawn, label="% of clean accuracy, half perturbed")
    return figure


def _places(cells: list[Cell]) -> tuple[list[tuple[str, float]], list[str]]:
    """Rows (perturbation, strength) and columns (defence) of the matrix."""
    rows = sorted({(c.norm, c.strength, c.pattern) for c in cells})
    columns = list(dict.fromkeys(c.defense for c in cells))
    return [(pattern, strength) for _, strength, pattern in rows], columns


def parsed(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This script's own options, and the overrides that are Hydra's."""
    known = parser(__doc__)
    known.add_argument("--defense", action="append", default=[], help="FOLDER, or NAME=FOLDER")
    known.add_argument("--rectifier", action="append", default=[], help="a registered rectifier")
    known.add_argument("--strength", default="1", help="factors of the l_inf ones, as 1,1.5")
    known.add_argument("--seen", default="", help="attacked images that a memory met, as 4,16")
    options, overrides = parse(known, arguments)
    options.strength = [float(factor) for factor in options.strength.split(",")]
    options.seen = tuple(int(count) for count in options.seen.split(",") if count)
    return options, overrides


if __name__ == "__main__":
    chosen, overrides = parsed(sys.argv[1:])
    sys.argv = [sys.argv[0], *overrides, "hydra.run.dir=outputs/experiments/unseen/${name}"]
    launch(partial(measure, options=chosen), "craft")
