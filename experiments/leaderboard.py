"""A place on the leaderboard: one defence, measured on everything that counts.

``--defense`` names a trained defence, ``--rectifier`` a registered rectifier, and ``--module
FILE:FUNCTION`` a function of a Python file that returns any ``torch.nn.Module`` from images to
images (N x 3 x H x W, 0 to 255), or such a module and a detector that scores what it removed. It
is tested on perturbations that it has not seen, on its own kind (``--own``), and on one that is
crafted against classifier, rectifier and detector together. Takes the settings of ``craft`` for
network, norm and photographs.

python -m experiments.leaderboard --module mine.py:build --name "mine" --trained-on "..." \
    --patterns BANKS --own BANK --strength 1,2.5 network=efficientnet_lite0 norm=linf \
    data=imagenet_sample data.root=FOLDER data.test_root=FOLDER data.resize=146 data.crop=128
"""

import argparse
import logging
import runpy
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from omegaconf import DictConfig
from torch import nn

from experiments.defenses import Cost, Entry, cost, entries
from experiments.stream_setting import Setting, answers, load_patterns, load_setting, parse, parser
from experiments.unseen_attacks import Cell, row
from uap_lightning.attacks.adaptive import attack_guard
from uap_lightning.attacks.descent import NoGradient
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_as, write_json
from uap_lightning.core.version import __version__
from uap_lightning.detectors import NoDetector
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.config import typed
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.perturbations.ball import Ball
from uap_lightning.results.escape import for_markdown
from uap_lightning.results.rows import norm_label

log = logging.getLogger(__name__)

# Photographs that the attacker who knows crafts on, at most.
_KNOWN = 512
_TIMED = 32
_GROUPS = (("inf", 1.0), ("2", 1.0), ("inf", 1.5), ("inf", 2.5))


@dataclass(frozen=True)
class Attack:
    """How the attacker who knows the whole defence went about it.

    Attributes:
        way, loss: of the attack that was the worst on the attacker's own photographs.
        restarts: attacks that it was chosen from.
        steps: gradient steps of each.
        photographs: that it was crafted on.
    """

    way: str
    loss: str
    restarts: int
    steps: int
    photographs: int


@dataclass(frozen=True)
class Place:
    """A file of the leaderboard: nothing of it may be left out.

    Attributes:
        schema: of this file.
        status: how the run ended.
        name: of the defence.
        trained_on: what it was trained on, in words.
        network: classifier.
        size: side of the images.
        norm: of the attacker who knows.
        seed: of the order of the photographs and of the attack.
        command: that made it.
        version: of this package.
        cost: what it computes.
        times: seconds of classifier and defence / seconds of the classifier, on one machine.
        unseen: cells of perturbations that it has not seen.
        own: of its own kind; empty where it has none.
        adaptive: of the attacker who knows; None where no gradient reaches the perturbation.
        attack: how that was made; None likewise.
    """

    schema: int
    status: Literal["ok"]
    name: str
    trained_on: str
    network: str
    size: int
    norm: str
    seed: int
    command: str
    version: str
    cost: Cost
    times: float
    unseen: list[Cell]
    own: list[Cell]
    adaptive: Cell | None
    attack: Attack | None


def entry_of(options: argparse.Namespace, size: int) -> Entry:
    """The one defence that the options name.

    Raises:
        UapError: they name none or several, or the function returns no module.
    """
    folders = [options.defense] if options.defense else []
    rectifiers = [options.rectifier] if options.rectifier else []
    if len(folders) + len(rectifiers) + bool(options.module) != 1:
        raise UapError("give one of --defense, --rectifier and --module.")
    if not options.module:
        [found] = entries(folders, rectifiers, size)
        return replace(found, name=options.name or found.name)
    file, _, function = options.module.rpartition(":")
    try:
        made = runpy.run_path(file)[function]()
    except (OSError, KeyError, SyntaxError) as error:
        raise UapError(
            f"--module is {options.module}: expected FILE.py:FUNCTION ({error!r})."
        ) from error
    parts = made if isinstance(made, tuple) else (made, NoDetector())
    if len(parts) != 2 or not all(isinstance(part, nn.Module) for part in parts):
        raise UapError(
            f"{options.module} returns {type(made).__name__}: expected a torch.nn.Module, or one "
            "and a detector."
        )
    rectifier, detector = parts
    return Entry(options.name or function, rectifier.eval(), detector.eval())


def attack(
    setting: Setting, entry: Entry, norm: Ball, seed: int, restarts: int, steps: int
) -> tuple[Cell, Attack] | None:
    """Craft against the whole defence on training photographs, and test the worst.

    Returns:
        None where no gradient reaches the perturbation: such a defence is not told to be robust.
    """
    device = setting.network.mean.device
    guard = Guard(setting.network, entry.rectifier, entry.detector).to(device)
    guard.requires_grad_(False)
    train = setting.train
    images = train.take(range(min(_KNOWN, len(train))))
    predictions = answers(setting.network, images.float())
    try:
        found = attack_guard(
            guard, _Taken(images), predictions, norm, seed, restarts=restarts, steps=steps
        )
    except NoGradient as error:
        log.warning("%s", error)
        return None
    p = "2" if norm.p == 2 else "inf"
    [cell] = row(replace(setting, patterns={"adaptive": (found.rho, p)}), entry, [1.0])
    drawn = found.drawn
    made = Attack(str(drawn["way"]), str(drawn["loss"]), restarts, steps, len(images))
    return cell, made


class _Taken:
    """Images of a tensor, as attacks take them."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def take(self, numbers: Sequence[int]) -> torch.Tensor:
        """Those with these numbers."""
        return self.images[list(numbers)]


@torch.no_grad()
def times(setting: Setting, entry: Entry) -> float:
    """Seconds of classifier and defence / seconds of the classifier: medians of turns."""
    device = setting.network.mean.device
    guard = Guard(setting.network, entry.rectifier, entry.detector).to(device)
    images = setting.images[:_TIMED].to(device).float()
    taken: dict[str, list[float]] = {"network": [], "guard": []}
    for turn in range(8):
        for name, call in (("network", setting.network), ("guard", guard)):
            started = time.perf_counter()
            call(images)[0, 0].item()
            if turn:  # the first warms up
                taken[name].append(time.perf_counter() - started)
    return median(taken["guard"]) / median(taken["network"])


def measure(composed: DictConfig, options: argparse.Namespace) -> None:
    """Measure, and write ``results.json``."""
    cfg = typed(composed, CraftConfig)
    size = int(cfg.data["crop"])
    entry = entry_of(options, size)
    setting = load_setting(cfg, options, learn=0)
    own: list[Cell] = []
    if options.own is not None:
        patterns = load_patterns(options.own, size, options.fit)
        tested = {name: found for name, found in patterns.items() if "train-" not in name}
        own = row(replace(setting, patterns=tested), entry, [1.0])
    unseen = row(setting, entry, options.strength)
    found = attack(setting, entry, cfg.ball(), cfg.seed, options.restarts, options.steps)
    place = Place(
        schema=1,
        status="ok",
        name=entry.name,
        trained_on=options.trained_on,
        network=setting.network.name,
        size=size,
        norm=cfg.norm.name,
        seed=cfg.seed,
        command=f"python -m experiments.leaderboard {options.command}",
        version=__version__,
        cost=cost(entry, size),
        times=times(setting, entry),
        unseen=unseen,
        own=own,
        adaptive=found[0] if found else None,
        attack=found[1] if found else None,
    )
    folder = Path(composed.paths.output_dir)
    write_json(folder / "results.json", asdict(place))
    log.info("Wrote %s", folder / "results.json")


def read_places(folder: Path) -> list[Place]:
    """The places of a folder.

    Raises:
        UapError: one lacks a floor, an interval, the seed, the command or what it was trained on.
    """
    return [read_as(file, Place, "a place of leaderboard") for file in sorted(folder.glob("*"))]


def leaderboard_table(folder: Path) -> str:
    """The places by classifier, the best mean over unseen ℓ∞ perturbations first."""
    head = ["Classifier", "Defence", "clean kept", "own kind"]
    names = [_label(norm, strength) for norm, strength in _GROUPS]
    head += [*(f"unseen {name}" for name in names), "crafted against it", "false alarms"]
    head += ["time", "GMAC"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    places = read_places(folder)
    places.sort(key=lambda p: (p.network, p.size, -_mean(_group(p.unseen, "inf", 1.0))))
    for place in places:
        alarms = place.unseen[0].false_alarms
        cells = [f"{place.network}, {place.size} px", for_markdown(place.name)]
        cells += [f"{place.unseen[0].clean:.1f}", _cell(place.own)]
        cells += [_cell(_group(place.unseen, *group)) for group in _GROUPS]
        cells += [_cell([place.adaptive]) if place.adaptive else "no gradient"]
        cells += ["" if alarms is None else f"{alarms:.1f} %"]
        cells += [f"{place.times:.2f}", f"{place.cost.gmac:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def provenance_table(folder: Path) -> str:
    """What stands behind each place."""
    head = ["Defence", "trained on", "photographs", "perturbations", "attack that was the worst"]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " --- |" * (len(head) - 1)]
    for place in read_places(folder):
        how = place.attack
        worst = f"{how.way}, {how.loss}, of {how.restarts} with {how.steps} steps" if how else ""
        cells = [for_markdown(place.name), for_markdown(place.trained_on)]
        cells += [str(place.unseen[0].n_photographs)]
        cells += [str(len({cell.pattern for cell in place.unseen})), worst]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _label(norm: str, strength: float) -> str:
    radius = strength * (2_000 if norm == "2" else 10)
    return f"{norm_label('l' + norm)}, ξ = {radius:,.0f}"


def _group(cells: list[Cell], norm: str, strength: float) -> list[Cell]:
    return [cell for cell in cells if (cell.norm, cell.strength) == (norm, strength)]


def _mean(cells: list[Cell]) -> float:
    return sum(cell.rate for cell in cells) / len(cells) if cells else 0.0


def _cell(cells: list[Cell]) -> str:
    """Mean, lowest one with its interval, and the floor of both."""
    if not cells:
        return ""
    worst = min(cells, key=lambda cell: cell.rate)
    low, high = worst.ci95
    floor = sum(cell.floor for cell in cells) / len(cells)
    if len(cells) == 1:
        return f"{worst.rate:.1f} [{low:.1f}, {high:.1f}]; floor {floor:.1f}"
    return f"{_mean(cells):.1f} ({worst.rate:.1f} [{low:.1f}, {high:.1f}]); floor {floor:.1f}"


def parsed(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This script's own options, and the overrides that are Hydra's."""
    known = parser(__doc__)
    known.add_argument("--defense", type=Path, help="a defence folder")
    known.add_argument("--rectifier", help="a registered rectifier")
    known.add_argument("--module", help="FILE.py:FUNCTION that returns a torch.nn.Module")
    known.add_argument("--name", default="", help="what the defence is called")
    known.add_argument("--trained-on", required=True, help="what it was trained on, in words")
    known.add_argument("--own", type=Path, help="bank of its own kind, whose test ones are taken")
    known.add_argument("--strength", default="1,1.5,2.5", help="factors of the l_inf ones")
    known.add_argument("--restarts", type=int, default=15, help="attacks on the whole defence")
    known.add_argument("--steps", type=int, default=90, help="gradient steps of each")
    options, overrides = parse(known, arguments)
    options.strength = [float(factor) for factor in options.strength.split(",")]
    return options, overrides


if __name__ == "__main__":
    chosen, overrides = parsed(sys.argv[1:])
    sys.argv = [sys.argv[0], *overrides, "hydra.run.dir=outputs/experiments/leaderboard/${name}"]
    launch(partial(measure, options=chosen), "craft")
