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
import re
import runpy
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from experiments.defenses import Entry, cost, entries
from experiments.leaderboard_tables import Attack, Place
from experiments.stream_setting import Setting, answers, load_patterns, load_setting, parse, parser
from experiments.unseen_attacks import Cell, row
from uap_lightning.attacks.adaptive import attack_guard
from uap_lightning.attacks.descent import NoGradient
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, write_json
from uap_lightning.core.version import __version__
from uap_lightning.data.crops import TensorImages
from uap_lightning.data.decoding import content_of
from uap_lightning.detectors import NoDetector
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.config import typed
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import identities

log = logging.getLogger(__name__)

# Photographs that the attacker who knows crafts on, at most.
_KNOWN = 512
_TIMED = 32
_COMPARED = 4
_ALIKE = 0.5  # pixel values: sums in another order differ by less


def entry_of(options: argparse.Namespace, size: int) -> Entry:
    """The one defence that the options name.

    Raises:
        UapError: they name none or several, or the function returns no module.
    """
    folders = [str(options.defense)] if options.defense else []
    rectifiers = [options.rectifier] if options.rectifier else []
    if len(folders) + len(rectifiers) + bool(options.module) != 1:
        raise UapError("give one of --defense, --rectifier and --module.")
    if not options.module:
        [found] = entries(folders, rectifiers, size)
        return replace(found, name=options.name or found.name)
    file, _, function = options.module.rpartition(":")
    try:
        build = runpy.run_path(file)[function]
    except (OSError, KeyError, SyntaxError) as error:
        raise UapError(
            f"--module is {options.module}: expected FILE.py:FUNCTION ({error!r})."
        ) from error
    made = build()
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
    # All over the set, which may be sorted by class.
    numbers = range(0, len(setting.train), max(1, -(-len(setting.train) // _KNOWN)))
    images = setting.train.take(numbers)
    predictions = answers(setting.network, images.float())
    try:
        found = attack_guard(
            guard, TensorImages(images), predictions, norm, seed, restarts=restarts, steps=steps
        )
    except NoGradient as error:
        log.warning("%s", error)
        return None
    p = "2" if norm.p == 2 else "inf"
    [cell] = row(replace(setting, patterns={"adaptive": (found.rho, p)}), entry, [1.0])
    drawn = found.drawn
    tried = int(str(drawn["tried"]))
    made = Attack(str(drawn["way"]), str(drawn["loss"]), tried, steps, len(images))
    return cell, made


@torch.no_grad()
def check_function(entry: Entry, images: Tensor) -> None:
    """Refuse what is no function of a single image: what it sees beside it would help it.

    Args:
        entry: on the device of the images.
        images: float N x 3 x H x W, 0-255.

    Raises:
        UapError: an image is not rectified alike by itself, among others and a second time, or
            what comes out is no image of its size.
    """
    given = images[:_COMPARED]
    together = entry.rectifier(given)
    if together.shape != given.shape or not bool(together.isfinite().all()):
        raise UapError(
            f"{entry.name} makes {tuple(together.shape)} of {tuple(given.shape)}, or values that "
            "are not finite: expected images of the same size."
        )
    alone = torch.cat([entry.rectifier(one[None]) for one in given])
    again = entry.rectifier(given)
    worst = float(torch.maximum((together - alone).abs(), (together - again).abs()).max())
    if worst > _ALIKE:
        raise UapError(
            f"{entry.name} rectifies an image by {worst:.1f} pixel values otherwise by itself, "
            "among others, or a second time: expected a function of a single image, without "
            "memory, chance or statistics of a batch."
        )


def tested_on(setting: Setting, strengths: Sequence[float]) -> str:
    """A digest of what a place is tested on: only like is compared with like.

    What a perturbation's bank is called, and the order of anything, are no part of it.
    """
    patterns = [identities(rho[None])[0] for rho, _ in setting.patterns.values()]
    photographs = [content_of(image.numpy().tobytes()) for image in setting.images]
    return digest_of([sorted(photographs), sorted(patterns), list(strengths)])


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
    computed = cost(entry, size)
    check_function(entry, setting.images.float())
    own: list[Cell] = []
    if options.own is not None:
        patterns = load_patterns(options.own, size, options.fit)
        tested = {name: found for name, found in patterns.items() if "train-" not in name}
        if not tested:
            raise UapError(
                f"--own is {options.own}: expected a bank with perturbations to test on."
            )
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
        cost=computed,
        times=times(setting, entry),
        tested_on=tested_on(setting, options.strength),
        unseen=unseen,
        own=own,
        adaptive=found[0] if found else None,
        attack=found[1] if found else None,
    )
    folder = Path(composed.paths.output_dir)
    write_json(folder / "results.json", asdict(place))
    log.info("Wrote %s", folder / "results.json")


def folder_of(options: argparse.Namespace, overrides: Sequence[str]) -> str:
    """Where the result goes: one folder for each defence and attacker."""
    called = options.name or options.rectifier or options.module or str(options.defense)
    norm = next((word for word in overrides if word.startswith("norm=")), "norm=linf")
    slug = re.sub(r"[^a-z0-9]+", "-", f"{called} {norm.removeprefix('norm=')}".lower()).strip("-")
    return f"outputs/experiments/leaderboard/{slug}"


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
    sys.argv = [sys.argv[0], *overrides, f"hydra.run.dir={folder_of(chosen, overrides)}"]
    launch(partial(measure, options=chosen), "craft")
