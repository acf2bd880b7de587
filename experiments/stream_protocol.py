"""The guard with memory on a stream: shares attacked, several patterns, attackers who know it.

Takes the settings of ``craft`` for network and photographs, and a folder of perturbation files.
Test photographs arrive in random order, once each; a share of them carries a pattern, each of k
patterns in turn, varied as the attacker does. The guard starts from nothing and has no rectifier,
so that what is measured is the memory alone. The rows tell the accuracy on attacked images by how
many the guard had met of the same pattern, beside no defence and beside the true pattern
subtracted.

python -m experiments.stream_protocol --patterns BANKS --attackers plain,grey --shares 10,100 \
    network=efficientnet_lite0 data=imagenet_sample data.root=FOLDER data.test_root=FOLDER
"""

import argparse
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from experiments.stream_attackers import VARIATIONS, Vary, mixture
from experiments.stream_generator import train_sampler
from experiments.stream_pairs import jpeg
from experiments.stream_setting import (
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
from uap_lightning.detectors import NoDetector
from uap_lightning.guard.guard import Guard
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.jobs.config import typed
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.rectifiers.baselines import Identity

log = logging.getLogger(__name__)

# Lower bounds of the windows that attacked images are counted in.
WINDOWS = (0, 1, 2, 4, 8, 16, 32, 64, 128)
GENERATOR = "generator"  # a network makes a fresh perturbation for each image
_BATCH = 4


@dataclass(frozen=True)
class Window:
    """Attacked images of which the guard had met ``seen`` or more of the same pattern.

    Attributes:
        attacker: how the pattern is varied.
        share: of the images that carry one, percent.
        patterns: how many, in turn.
        seen: lower bound of the window.
        n_images: attacked ones in the window, of as many photographs.
        suspected: of these, percent.
        acc_clean, acc_perturbed, acc_defended, acc_known: on them clean, with no defence, through
            the guard, and with the true pattern subtracted, percent.
        undefended_rate, defended_rate, known_rate: of these to the clean one, percent.
        ci95: of ``defended_rate``, over photographs; None where a resample has no right answer.
    """

    attacker: str
    share: float
    patterns: int
    seen: int
    n_images: int
    suspected: float
    acc_clean: float
    acc_perturbed: float
    acc_defended: float
    acc_known: float
    undefended_rate: float
    defended_rate: float
    known_rate: float
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Stream:
    """A whole stream.

    Attributes:
        attacker, share, patterns: as of its windows.
        n_clean: images without a pattern.
        false_alarms: of these, said to share one.
        changed: of these, not given to the network to the last bit as they came.
        found: patterns that the guard found.
        harmful: of these, verified.
        until: attacked images until the first was suspected; None if none was.
    """

    attacker: str
    share: float
    patterns: int
    n_clean: int
    false_alarms: int
    changed: int
    found: int
    harmful: int
    until: int | None


def walk(
    setting: Setting,
    rhos: list[Tensor],
    attacker: str,
    share: float,
    seed: int,
    others: list[Tensor] | None = None,
    variations: Mapping[str, Vary] = VARIATIONS,
) -> tuple[Stream, list[Window]]:
    """Send photographs through a fresh guard, a share of them attacked.

    Args:
        setting: network and photographs.
        rhos: the patterns, in turn.
        attacker: how each is varied.
        share: of the images that carry one, percent.
        seed: of the choice and the variations.
        others: all patterns that the attacker has; None for those of ``rhos``.
        variations: what each attacker does.
    """
    network, images, label = setting.network, setting.images, setting.label
    generator = torch.Generator().manual_seed(seed)
    carries = torch.rand(len(images), generator=generator) < share / 100
    given, known = images.clone(), images.float()
    met = torch.full((len(images),), -1)
    for turn, place in enumerate(carries.nonzero()[:, 0].tolist()):
        rho = variations[attacker](rhos[turn % len(rhos)], images[place], others or rhos, generator)
        met[place] = turn // len(rhos)
        one = attacked(images[place][None], rho)
        if attacker.startswith("jpeg"):
            one = jpeg(one, int(attacker.split()[1]))
        given[place] = one[0]
        known[place] = (one[0].float() - rho).clamp(0, 255)
    guard = StreamGuard(Guard(network, Identity(), NoDetector()), setting.whitener)
    seen = [guard(batch) for batch in torch.split(given, _BATCH)]
    suspected = torch.cat([part.suspected for part in seen]).cpu()
    defended = torch.cat([part.logits.argmax(1) for part in seen]).cpu() == label
    passed = torch.cat([part.given for part in seen]).cpu()
    altered = (passed != given.float()).flatten(1).any(1)
    verdicts = [verdict for _, _, verdict in guard.found()]
    first = met[carries & suspected]
    stream = Stream(
        attacker,
        share,
        len(rhos),
        int((~carries).sum()),
        int((suspected & ~carries).sum()),
        int((altered & ~carries).sum()),
        len(verdicts),
        sum(verdict is not None and verdict.harmful for verdict in verdicts),
        int(first.min()) * len(rhos) + 1 if len(first) else None,
    )
    right = {
        "clean": answers(network, images.float()) == label,
        "perturbed": answers(network, given.float()) == label,
        "defended": defended,
        "known": answers(network, known) == label,
    }
    windows = []
    for low, high in zip(WINDOWS, (*WINDOWS[1:], len(images) + 1), strict=True):
        inside = (met >= low) & (met < high)
        clean = right["clean"][inside]
        if not int(clean.sum()):
            continue
        accuracy = {name: 100 * float(held[inside].double().mean()) for name, held in right.items()}
        rate = {name: 100 * value / accuracy["clean"] for name, value in accuracy.items()}
        low_end, high_end = interval(right["defended"][inside], clean, seed)
        known_ends = isfinite(low_end) and isfinite(high_end)
        windows.append(
            Window(
                attacker,
                share,
                len(rhos),
                low,
                int(inside.sum()),
                100 * float(suspected[inside].double().mean()),
                accuracy["clean"],
                accuracy["perturbed"],
                accuracy["defended"],
                accuracy["known"],
                rate["perturbed"],
                rate["defended"],
                rate["known"],
                (low_end, high_end) if known_ends else None,
            )
        )
    return stream, windows


def distinct(rhos: list[Tensor], count: int, seed: int) -> list[Tensor]:
    """``count`` different patterns: those given, and random mixtures of them where they are few."""
    chance = torch.Generator().manual_seed(seed)
    more = range(count - len(rhos))
    return [*rhos[:count], *(mixture(rhos[0], rhos[0], rhos, chance) for _ in more)]


def mirrored(setting: Setting, seed: int) -> Setting:
    """Twice as many photographs: each, and its mirror image, in a new random order."""
    images = torch.cat([setting.images, setting.images.flip(-1)])
    label = setting.label.repeat(2)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return replace(setting, images=images[order], label=label[order])


def markdown(windows: list[Window], streams: list[Stream]) -> str:
    """A line a stream: the defended rate by window, the floor, false alarms."""
    head = ["attacker", "attacked", "patterns", "no defence", *map(str, WINDOWS), "known", "until"]
    head += ["false alarms", "found (harmful)"]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for stream in streams:
        key = (stream.attacker, stream.share, stream.patterns)
        rows = [w for w in windows if (w.attacker, w.share, w.patterns) == key]
        total = sum(row.n_images * row.acc_clean for row in rows)
        means = [
            100 * sum(row.n_images * getattr(row, name) for row in rows) / total if total else 0.0
            for name in ("acc_perturbed", "acc_known")
        ]
        by_seen = {row.seen: f"{row.defended_rate:.1f}" for row in rows}
        cells = [stream.attacker, f"{stream.share:g} %", str(stream.patterns), f"{means[0]:.1f}"]
        cells += [by_seen.get(seen, "") for seen in WINDOWS]
        cells += [f"{means[1]:.1f}", str(stream.until or "never")]
        cells += [f"{stream.false_alarms} of {stream.n_clean}"]
        cells += [f"{stream.found} ({stream.harmful})"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def measure(composed: DictConfig, options: argparse.Namespace) -> None:
    """Walk every stream, and write ``results.json`` and ``protocol.md``."""
    cfg = typed(composed, CraftConfig)
    setting = load_setting(cfg, options)
    rhos = [rho for rho, _ in setting.patterns.values()]
    plan = [("plain", share, count) for share in options.shares for count in options.counts]
    plan += [(name, 100.0, 1) for name in options.attackers if name != "plain"]
    if options.mirrored:
        setting = mirrored(setting, cfg.seed)
    variations = dict(VARIATIONS)
    if GENERATOR in options.attackers:
        variations[GENERATOR] = train_sampler(setting.network, setting.train, cfg.ball(), cfg.seed)
    streams, windows = [], []
    for name, share, count in track(plan, "Streaming"):
        chosen = distinct(rhos, count, cfg.seed)
        found = walk(setting, chosen, name, share, cfg.seed, rhos, variations)
        streams.append(found[0])
        windows += found[1]
        log.info("%s", markdown(found[1], [found[0]]).splitlines()[-1])
    folder = Path(composed.paths.output_dir)
    content = {
        "schema": 1,
        "status": "ok",
        "network": setting.network.name,
        "size": setting.whitener.size,
        "seed": cfg.seed,
        "command": f"python -m experiments.stream_protocol {options.command}",
        "streams": [asdict(stream) for stream in streams],
        "windows": [asdict(window) for window in windows],
    }
    write_json(folder / "results.json", content)
    write_atomically(folder / "protocol.md", markdown(windows, streams).encode())


def parsed(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This script's own options, and the overrides that are Hydra's."""
    known, attackers = parser(__doc__), [*VARIATIONS, GENERATOR]
    known.add_argument("--shares", default="1,10,50,100", help="attacked, percent")
    known.add_argument("--counts", default="1", help="patterns at once, as 1,3,10")
    known.add_argument("--attackers", default=",".join(attackers), help="how patterns are varied")
    known.add_argument("--mirrored", action="store_true", help="each photograph mirrored too")
    options, overrides = parse(known, arguments)
    options.shares = [*map(float, options.shares.split(","))]
    options.counts = [*map(int, options.counts.split(","))]
    options.attackers = options.attackers.split(",")
    unknown = [name for name in options.attackers if name not in attackers]
    if unknown:
        raise UapError(f"--attackers has {unknown[0]}: expected some of {', '.join(attackers)}.")
    return options, overrides


if __name__ == "__main__":
    chosen, overrides = parsed(sys.argv[1:])
    sys.argv = [
        sys.argv[0],
        *overrides,
        "hydra.run.dir=outputs/experiments/stream_protocol/${name}",
    ]
    launch(partial(measure, options=chosen), "craft")
