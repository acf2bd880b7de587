"""The guard with memory on a stream: shares attacked, several patterns, attackers who know it.

Takes the settings of ``craft`` for network and photographs, and a folder of perturbation files.
Test photographs arrive in random order, once each; a share of them carries a pattern, each of k
patterns in turn, varied as the attacker does. The guard starts from nothing and has no rectifier,
so that what is measured is the memory alone. The rows tell the accuracy on attacked images by how
many the guard had met of the same pattern, beside no defence and beside the true pattern
subtracted.

python -m experiments.stream_protocol --patterns BANKS --attackers plain,shift,grey \
    --shares 10,100 network=efficientnet_lite0 data=imagenet_sample data.root=FOLDER \
    data.test_root=FOLDER data.resize=null data.crop=224
"""

import argparse
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from experiments.stream import answers, interval, jpeg, load_patterns, test_photographs
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically, write_json
from uap_lightning.core.terminal import track
from uap_lightning.data import Collection
from uap_lightning.detectors import NoDetector
from uap_lightning.guard.guard import Guard
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.jobs.config import build, typed
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.jobs.stages import check_labels, load_network
from uap_lightning.networks import TargetNetwork
from uap_lightning.rectifiers.baselines import Identity
from uap_lightning.streams.whitening import Whitener

log = logging.getLogger(__name__)

# Lower bounds of the windows that attacked images are counted in.
WINDOWS = (0, 1, 2, 4, 8, 16, 32, 64, 128)
_BATCH = 4
# What each query draws from.
_SHIFT = 16
_NOISE = 4.0

Vary = Callable[[Tensor, torch.Generator], Tensor]


def shift(rho: Tensor, generator: torch.Generator) -> Tensor:
    """The pattern rolled by up to 16 pixels each way, anew for each image."""
    by = torch.randint(-_SHIFT, _SHIFT + 1, (2,), generator=generator).tolist()
    return rho.roll(by, (-2, -1))


def sign(rho: Tensor, generator: torch.Generator) -> Tensor:
    """The pattern or its negative."""
    return rho * (1 - 2 * int(torch.randint(2, (1,), generator=generator)))


def gain(rho: Tensor, generator: torch.Generator) -> Tensor:
    """The pattern at half to full strength."""
    return rho * float(0.5 + 0.5 * torch.rand((), generator=generator))


def grey(rho: Tensor, generator: torch.Generator) -> Tensor:
    """The pattern without colour, at its largest value everywhere."""
    return rho.mean(dim=0, keepdim=True).expand_as(rho).sign() * rho.abs().max()


def coarse(rho: Tensor, generator: torch.Generator, cells: int) -> Tensor:
    """The pattern as a grid of cells x cells values, interpolated, of the same largest value."""
    small = torch.nn.functional.adaptive_avg_pool2d(rho[None], cells)
    size = rho.shape[-2:]
    smooth = torch.nn.functional.interpolate(small, size=size, mode="bicubic")[0]
    limit = rho.abs().max()
    # Enlarged until it is at the limit where it was: what is smoothed away is strength.
    return (smooth * limit / smooth.abs().mean().clamp_min(1e-6)).clamp(-limit, limit)


def noise(rho: Tensor, generator: torch.Generator) -> Tensor:
    """The pattern and Gaussian noise of 4 pixel values, anew for each image."""
    return rho + _NOISE * torch.randn(rho.shape, generator=generator)


VARIATIONS: dict[str, Vary] = {
    "plain": lambda rho, generator: rho,
    "shift": shift,
    "sign": sign,
    "gain": gain,
    "grey": grey,
    "grid 32": partial(coarse, cells=32),
    "grid 16": partial(coarse, cells=16),
    "grid 8": partial(coarse, cells=8),
    "noise": noise,
    "jpeg 75": lambda rho, generator: rho,
}


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
    network: TargetNetwork,
    whitener: Whitener,
    images: Tensor,
    label: Tensor,
    rhos: list[Tensor],
    attacker: str,
    share: float,
    seed: int,
) -> tuple[Stream, list[Window]]:
    """Send photographs through a fresh guard, a share of them attacked."""
    generator = torch.Generator().manual_seed(seed)
    carries = torch.rand(len(images), generator=generator) < share / 100
    given, known = images.clone(), images.float()
    met = torch.full((len(images),), -1)
    for turn, place in enumerate(carries.nonzero()[:, 0].tolist()):
        rho = VARIATIONS[attacker](rhos[turn % len(rhos)], generator)
        met[place] = turn // len(rhos)
        one = (images[place].float() + rho).round().clamp(0, 255)
        if attacker.startswith("jpeg"):
            one = jpeg(one.to(torch.uint8)[None], int(attacker.split()[1]))[0].float()
        given[place] = one.to(torch.uint8)
        known[place] = (one - rho).clamp(0, 255)
    guard = StreamGuard(Guard(network, Identity(), NoDetector()), whitener)
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
    cfg.data.update(train_crops=1, test_crops=1)
    data = build(cfg.data, Collection)
    network = load_network(cfg.network, cfg.accelerator).eval().requires_grad_(False)
    check_labels(data, network)
    images, label = test_photographs(network, data, options.photographs, cfg.seed)
    rhos = [rho for rho, _ in load_patterns(options.patterns, data.crop).values()]
    numbers = list(range(0, len(data.train), max(1, len(data.train) // 600)))
    whitener = Whitener(data.crop).fit(data.train.take(numbers))
    plan = [("plain", share, count) for share in options.shares for count in options.counts]
    plan += [(name, 100.0, 1) for name in options.attackers if name != "plain"]
    streams, windows = [], []
    for name, share, count in track(plan, "Streaming"):
        chosen = (rhos * count)[:count] if count > len(rhos) else rhos[:count]
        found = walk(network, whitener, images, label, chosen, name, share, cfg.seed)
        streams.append(found[0])
        windows += found[1]
        log.info("%s", markdown(found[1], [found[0]]).splitlines()[-1])
    folder = Path(composed.paths.output_dir)
    content = {
        "schema": 1,
        "status": "ok",
        "network": network.name,
        "size": data.crop,
        "seed": cfg.seed,
        "command": f"python -m experiments.stream_protocol {options.command}",
        "streams": [asdict(stream) for stream in streams],
        "windows": [asdict(window) for window in windows],
    }
    write_json(folder / "results.json", content)
    write_atomically(folder / "protocol.md", markdown(windows, streams).encode())


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This script's own options, and the overrides that are Hydra's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patterns", type=Path, required=True, help="folder of perturbation files")
    parser.add_argument("--photographs", type=int, default=100_000, help="test photographs at most")
    parser.add_argument("--shares", default="1,10,50,100", help="attacked, percent")
    parser.add_argument("--counts", default="1", help="patterns at once, as 1,3,10")
    parser.add_argument("--attackers", default=",".join(VARIATIONS), help="how patterns are varied")
    options, overrides = parser.parse_known_args(arguments)
    options.command = " ".join(arguments)
    options.shares = [float(share) for share in options.shares.split(",")]
    options.counts = [int(count) for count in options.counts.split(",")]
    options.attackers = options.attackers.split(",")
    unknown = [name for name in options.attackers if name not in VARIATIONS]
    if unknown:
        raise UapError(f"--attackers has {unknown[0]}: expected some of {', '.join(VARIATIONS)}.")
    return options, overrides


if __name__ == "__main__":
    chosen, overrides = parse(sys.argv[1:])
    sys.argv = [
        sys.argv[0],
        *overrides,
        "hydra.run.dir=outputs/experiments/stream_protocol/${name}",
    ]
    launch(partial(measure, options=chosen), "craft")
