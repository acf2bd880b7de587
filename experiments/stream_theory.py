"""Pair scores, and images until discovery, as the spectrum of photographs predicts them.

Takes the settings of ``craft`` for network and photographs, and a folder of perturbation files.
One half of the test photographs is looked at clean: from their local deviations and their whitened
energy, and from each pattern, follows how much two images that carry it have in common. The other
half is attacked and measured. ``docs/stream-theory.md`` has the derivation.

python -m experiments.stream_theory --patterns BANKS --photographs 300 \
    network=efficientnet_lite0 data=imagenet_sample data.root=FOLDER data.test_root=FOLDER \
    data.resize=null data.crop=224
"""

import argparse
import logging
import math
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch import Tensor
from torch.nn import functional

from experiments.render import write_figure
from experiments.stream_pairs import RATE
from experiments.stream_setting import attacked, load_setting, parse, parser, residuals_of
from uap_lightning.core.storage import write_atomically, write_json
from uap_lightning.core.terminal import track
from uap_lightning.jobs.config import typed
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.streams.matching import scores
from uap_lightning.streams.sketches import BITS, sketch, sketch_scores
from uap_lightning.streams.whitening import FLOOR, Whitener, opponent

log = logging.getLogger(__name__)

# Images that a new one is compared with, as in the guard.
_MEMORY = 2_048
# Deviations of a sketch above which the guard compares whole residuals.
_CANDIDATE = 4.0
# Orders in which the attacked images may come.
_ORDERS = 500


@dataclass(frozen=True)
class Row:
    """One pattern at one strength.

    Attributes:
        pattern: its file, below the folder.
        norm: ``2`` or ``inf``, as its record says.
        strength: it was multiplied by this.
        largest: value of the pattern, pixel units.
        predicted, measured: mean score of a pair.
        predicted_until, measured_until: attacked images until two were found to share the pattern,
            the mean over random orders; None where some orders end before.
    """

    pattern: str
    norm: str
    strength: float
    largest: float
    predicted: float
    measured: float
    predicted_until: float | None
    measured_until: float | None


@dataclass(frozen=True)
class Photographs:
    """What the prediction knows of clean photographs, in opponent colours.

    Attributes:
        deviation: local, N x 3 x H x W, pixel units.
        energy: squared length of each colour's whitened residual, N x 3.
    """

    deviation: Tensor
    energy: Tensor


def high_pass(images: Tensor) -> Tensor:
    """Opponent colours minus their 5 x 5 binomial blur: N x 3 x H x W."""
    colours = torch.einsum("ij,njhw->nihw", opponent(), images.float())
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (row[:, None] * row).expand(3, 1, 5, 5)
    padded = functional.pad(colours, (2, 2, 2, 2), mode="reflect")
    high: Tensor = colours - functional.conv2d(padded, kernel, groups=3)
    return high


def local_variance(maps: Tensor) -> Tensor:
    """Mean square over windows of 7 x 7: N x 3 x H x W."""
    padded = functional.pad(maps.square(), (3,) * 4, mode="reflect")
    variance: Tensor = functional.avg_pool2d(padded, 7, 1)
    return variance


def whitened_energy(maps: Tensor, power: Tensor) -> Tensor:
    """Squared length of each colour once every frequency is divided by ``power``: N x 3."""
    white = torch.fft.irfft2(torch.fft.rfft2(maps) / power, s=maps.shape[-2:])
    energy: Tensor = white.square().sum(dim=(-2, -1))
    return energy


def look_at(whitener: Whitener, images: Tensor) -> Photographs:
    """Statistics of clean photographs."""
    deviations, energies = [], []
    for batch in torch.split(images, 32):
        high = high_pass(batch)
        deviation = local_variance(high).sqrt()
        deviations.append(deviation)
        energies.append(whitened_energy(high / (deviation + FLOOR), whitener.power))
    return Photographs(torch.cat(deviations), torch.cat(energies))


def predicted_cosines(whitener: Whitener, seen: Photographs, rho: Tensor) -> Tensor:
    """Cosine between the residuals of each two photographs that carry a pattern: N x N.

    In each colour c and photograph i the pattern's high-pass part u is divided by the local
    deviation sqrt(s_i^2 + s_u^2) + 2, which varies slowly, and by the power of photographs. With
    g_i = 1 / (sqrt(s_i^2 + s_u^2) + 2), and U the energy of u after division by the power,

        <t_i, t_j> = sum_c mean(g_i) mean(g_j) U,    |t_i|^2 = sum_c mean(g_i^2) U,

    and what the photograph holds itself keeps the share of its energy E_i by which g_i is less
    than it was: |n_i|^2 = sum_c E_i mean(s_i^2 g_i^2) / mean(s_i^2 / (s_i + 2)^2). The cosine is
    <t_i, t_j> over the product of the lengths.
    """
    high = high_pass(rho[None])
    energy = whitened_energy(high, whitener.power)[0]
    squared = seen.deviation.square()
    gain = 1 / ((squared + local_variance(high)).sqrt() + FLOOR)
    kept = (squared * gain.square()).mean(dim=(-2, -1))
    before = (squared / (seen.deviation + FLOOR).square()).mean(dim=(-2, -1)).clamp_min(1e-9)
    own = seen.energy * kept / before
    length = (gain.square().mean(dim=(-2, -1)) * energy + own).sum(dim=1).sqrt()
    length = torch.maximum(length, whitener.length)
    parts = gain.mean(dim=(-2, -1)) * energy.sqrt() / length[:, None]
    return parts @ parts.T


def until(found: Tensor, seed: int) -> float | None:
    """Images until the first two that are found to be a pair, the mean over random orders.

    Args:
        found: which pairs are, bool N x N, symmetric.
        seed: of the orders.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = []
    for _ in range(_ORDERS):
        order = torch.randperm(len(found), generator=generator)
        pairs = torch.tril(found[order][:, order], -1).any(dim=1)
        if not bool(pairs.any()):
            return None
        counts.append(int(pairs.nonzero()[0]) + 1)
    return sum(counts) / len(counts)


def compare(
    whitener: Whitener, seen: Photographs, images: Tensor, rho: Tensor, seed: int
) -> tuple[float, float, float | None, float | None]:
    """Mean pair score and images until discovery, each predicted and measured."""
    threshold = whitener.null.threshold(RATE / _MEMORY)
    root = math.sqrt(whitener.dimension)
    # Whole numbers plus the pattern, rounded: what arrives is the rounded pattern.
    cosines = predicted_cosines(whitener, seen, rho.round())
    upper = torch.triu(torch.ones_like(cosines, dtype=torch.bool), 1)
    generator = torch.Generator().manual_seed(seed)
    chance, bits = torch.randn(2, *cosines.shape, generator=generator)
    # Signs of two Gaussian numbers of this correlation agree so much more often than half.
    agree = math.sqrt(BITS) * 2 / math.pi * cosines.clamp(-1, 1).asin()
    guess = (root * cosines + chance > threshold) & (agree + bits > _CANDIDATE)
    guess = torch.triu(guess, 1)
    residuals = residuals_of(whitener, attacked(images, rho))
    score = scores(residuals, residuals)
    words = sketch(residuals)
    found = (score > threshold) & (torch.from_numpy(sketch_scores(words, words)) > _CANDIDATE)
    other = torch.triu(torch.ones_like(score, dtype=torch.bool), 1)
    return (
        root * float(cosines[upper].mean()),
        float(score[other].mean()),
        until(guess | guess.T, seed),
        until(found, seed),
    )


def measure(composed: DictConfig, options: argparse.Namespace) -> None:
    """Predict and measure, and write ``results.json``, ``theory.md`` and ``theory.png``."""
    cfg = typed(composed, CraftConfig)
    setting = load_setting(cfg, options)
    half = len(setting.images) // 2
    whitener, images = setting.whitener.cpu(), setting.images[half:]
    seen = look_at(whitener, setting.images[:half])
    rows = []
    for name, (rho, norm) in track(setting.patterns.items(), "Comparing"):
        for strength in options.strength:
            scaled = rho * strength
            found = compare(whitener, seen, images, scaled, cfg.seed)
            rows.append(Row(name, norm, strength, float(scaled.abs().max()), *found))
    folder = Path(composed.paths.output_dir)
    content = {
        "schema": 1,
        "status": "ok",
        "size": whitener.size,
        "seed": cfg.seed,
        "photographs": [half, len(images)],
        "threshold": whitener.null.threshold(RATE / _MEMORY),
        "command": f"python -m experiments.stream_theory {options.command}",
        "rows": [asdict(row) for row in rows],
    }
    write_json(folder / "results.json", content)
    write_atomically(folder / "theory.md", markdown(rows).encode())
    write_figure(draw(rows), folder / "theory.png")
    log.info("Wrote %s", folder)


def markdown(rows: list[Row]) -> str:
    """One line a pattern and strength."""
    head = ["pattern", "times", "score predicted", "measured", "images until found", "measured"]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for row in rows:
        cells = [row.pattern.removesuffix("/test-0000"), f"{row.strength:g}"]
        cells += [f"{row.predicted:.1f}", f"{row.measured:.1f}"]
        for count in (row.predicted_until, row.measured_until):
            cells.append("" if count is None else f"{count:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[Row]) -> Figure:
    """Measured against predicted: pair scores, and images until discovery."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, title, predicted, measured in (
        (left, "mean score of a pair", "predicted", "measured"),
        (right, "attacked images until found", "predicted_until", "measured_until"),
    ):
        drawn: list[float] = []
        for norm, colour, name in (("inf", "C0", "l_inf"), ("2", "C1", "l_2")):
            ends = [(getattr(r, predicted), getattr(r, measured)) for r in rows if r.norm == norm]
            known = [(x, y) for x, y in ends if x is not None and y is not None]
            drawn += [value for pair in known for value in pair]
            axes.scatter([x for x, _ in known], [y for _, y in known], s=14, c=colour, label=name)
        line = [min(drawn), max(drawn)] if drawn else []
        axes.plot(line, line, color="grey", lw=0.8, label="predicted = measured")
        axes.set(xlabel=f"{title}, predicted", ylabel="measured")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return figure


def parsed(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This script's own options, and the overrides that are Hydra's."""
    known = parser(__doc__)
    known.add_argument("--strength", default="0.1,0.2,0.3,0.5,1", help="factors of the patterns")
    options, overrides = parse(known, arguments)
    options.strength = [float(factor) for factor in options.strength.split(",")]
    return options, overrides


if __name__ == "__main__":
    chosen, overrides = parsed(sys.argv[1:])
    sys.argv = [sys.argv[0], *overrides, "hydra.run.dir=outputs/experiments/stream_theory/${name}"]
    launch(partial(measure, options=chosen), "craft")
