"""What a guard with memory knows after 0, 2, 4, ... attacked images, for each of many patterns.

Takes the settings of ``craft`` for network and photographs, and a folder of perturbation files
(banks, imported ones too), which are used for nothing but this test. The whitener is fitted on
training photographs. Each pattern is estimated from n attacked test photographs and then subtracted
from other ones in which its matched filter finds it; pairs, discovery and false alarms are counted
on test photographs too.

python -m experiments.stream --patterns BANKS network=efficientnet_lite0 data=imagenet_sample \
    data.root=FOLDER data.test_root=FOLDER data.resize=null data.crop=224
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

from experiments.render import write_figure
from experiments.stream_pairs import RATE, Blind, Pairs, blind, clean_pairs, pairs_of
from experiments.stream_setting import (
    LEARN,
    Setting,
    answers,
    attacked,
    interval,
    load_setting,
    parse,
    parser,
    residuals_of,
)
from uap_lightning.core.storage import write_atomically, write_json
from uap_lightning.core.terminal import track
from uap_lightning.jobs.config import typed
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.streams.estimation import estimate
from uap_lightning.streams.matching import explained, scores, templates
from uap_lightning.streams.whitening import Whitener

log = logging.getLogger(__name__)

_BATCH = 32


@dataclass(frozen=True)
class Point:
    """Accuracy on attacked images after so many of them were seen.

    Attributes:
        pattern: its file, below the folder.
        norm: ``2`` or ``inf``, as its record says.
        strength: it was multiplied by this.
        seen: attacked images that it was estimated from; 0 is no defence, -1 the known pattern
            in the store and its filter, as in the first image after it was imported.
        found: share of the attacked images that the matched filter finds, percent.
        accuracy: on attacked images, percent.
        relative: of it to the accuracy on the same images clean, percent.
        ci95: of ``relative``, over photographs.
        n_photographs: tested on.
    """

    pattern: str
    norm: str
    strength: float
    seen: int
    found: float | None
    accuracy: float
    relative: float
    ci95: tuple[float, float]
    n_photographs: int


def curve(
    setting: Setting,
    pattern: tuple[str, Tensor, str, float],
    seen: tuple[int, ...],
    seed: int,
) -> list[Point]:
    """Accuracy on attacked images, undefended, after each number seen, and with the known one."""
    name, plain, norm, strength = pattern
    network, whitener, rho = setting.network, setting.whitener, plain * strength
    learn, test = setting.images[:LEARN], setting.images[LEARN:]
    truth = setting.label[LEARN:]
    order = torch.randperm(len(learn), generator=torch.Generator().manual_seed(seed))
    given = attacked(test, rho)
    residuals = residuals_of(whitener, given)
    clean = answers(network, test.float()) == truth

    def point(count: int, estimated: Tensor | None) -> Point:
        given_float = given.float()
        found = None
        if estimated is not None:
            filters = templates(whitener, estimated[None])
            carries = carriers(whitener, given, residuals, estimated, filters)
            found = 100 * float(carries.double().mean())
            cleaned = (given_float - estimated).clamp(0, 255)
            given_float = torch.where(carries[:, None, None, None], cleaned, given_float)
        right = answers(network, given_float) == truth
        low, high = interval(right, clean, seed)
        accuracy = 100 * float(right.double().mean())
        relative = 100 * float(right.sum()) / float(clean.sum())
        ci95, tested = (low, high), len(test)
        return Point(name, norm, strength, count, found, accuracy, relative, ci95, tested)

    points = [point(0, None), point(-1, rho)]
    for count in seen:
        points.append(point(count, estimate(attacked(learn[order[:count]], rho))))
    return points


def carriers(
    whitener: Whitener, given: Tensor, residuals: Tensor, pattern: Tensor, filters: Tensor
) -> Tensor:
    """Which images a guard would subtract a pattern from, by the rules it has itself: bool N."""
    found = scores(residuals, filters)[:, 0]
    carries = found > whitener.null.threshold(RATE)
    for place in torch.split(carries.nonzero()[:, 0], _BATCH):
        same = (pattern.expand_as(given[place]), filters.expand(len(place), -1))
        carries[place] = explained(whitener, given[place].float(), *same, found[place])
    return carries


def measure(composed: DictConfig, options: argparse.Namespace) -> None:
    """Measure, and write ``results.json``, ``stream.md`` and ``stream.png``."""
    cfg = typed(composed, CraftConfig)
    setting = load_setting(cfg, options)
    whitener, images = setting.whitener, setting.images
    points: list[Point] = []
    pairs: list[Pairs] = []
    blinds: list[Blind] = []
    for name, (rho, norm) in track(setting.patterns.items(), "Measuring"):
        for strength in options.strength if norm == "inf" else [1.0]:
            points += curve(setting, (name, rho, norm, strength), options.seen, cfg.seed)
        pairs += pairs_of(whitener, images, name, rho)
        blinds.append(blind(whitener, images, name, rho, cfg.seed))
    folder = Path(composed.paths.output_dir)
    content = {
        "schema": 1,
        "status": "ok",
        "network": setting.network.name,
        "size": whitener.size,
        "seed": cfg.seed,
        "command": f"python -m experiments.stream {options.command}",
        "clean_pairs": asdict(clean_pairs(whitener, images)),
        "points": [asdict(point) for point in points],
        "pairs": [asdict(pair) for pair in pairs],
        "blind": [asdict(row) for row in blinds],
    }
    write_json(folder / "results.json", content)
    write_atomically(folder / "stream.md", markdown(points).encode())
    write_figure(draw(points), folder / "stream.png")
    log.info("Wrote %s", folder)


def markdown(points: list[Point]) -> str:
    """One line a pattern and strength, one column a number of attacked images seen."""
    seen = [count for count in dict.fromkeys(point.seen for point in points) if count > 0]
    head = ["pattern", "times", "no defence", *map(str, seen), "known"]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    rows: dict[tuple[str, float], dict[int, Point]] = {}
    for point in points:
        rows.setdefault((point.pattern, point.strength), {})[point.seen] = point
    for (name, strength), row in rows.items():
        cells = [
            f"{row[count].relative:.1f} [{row[count].ci95[0]:.1f}, {row[count].ci95[1]:.1f}]"
            for count in (0, *seen, -1)
        ]
        lines.append(f"| {_label(name)} | {strength:g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _label(name: str) -> str:
    """A bank's name alone where it holds one perturbation to test on."""
    return name.removesuffix("/test-0000")


def draw(points: list[Point]) -> Figure:
    """Accuracy relative to clean against the attacked images seen, one line a pattern."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    rows: dict[tuple[str, float], list[Point]] = {}
    for point in points:
        if point.seen >= 0:
            rows.setdefault((point.pattern, point.strength), []).append(point)
    for (name, strength), row in rows.items():
        label = _label(name) if strength == 1 else f"{_label(name)} x {strength:g}"
        places = range(len(row))
        axes.plot(places, [point.relative for point in row], marker="o", ms=3, lw=1, label=label)
        axes.set_xticks(list(places), [str(point.seen) for point in row])
    axes.set_xlabel("attacked images seen")
    axes.set_ylabel("accuracy on attacked images, % of clean")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, ncols=2)
    return figure


def parsed(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This script's own options, and the overrides that are Hydra's."""
    known = parser(__doc__)
    known.add_argument("--strength", default="1", help="factors of the l_inf ones, as 1,1.5")
    known.add_argument("--seen", default="2,4,8,16,32,64", help="attacked images seen")
    options, overrides = parse(known, arguments)
    options.strength = [float(factor) for factor in options.strength.split(",")]
    options.seen = tuple(int(count) for count in options.seen.split(","))
    return options, overrides


if __name__ == "__main__":
    chosen, overrides = parsed(sys.argv[1:])
    sys.argv = [sys.argv[0], *overrides, "hydra.run.dir=outputs/experiments/stream/${name}"]
    launch(partial(measure, options=chosen), "craft")
