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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from torch.nn import functional

from experiments.render import write_figure
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically, write_json
from uap_lightning.core.terminal import track
from uap_lightning.data import Collection
from uap_lightning.data.crops import CropDataset
from uap_lightning.jobs.config import build, typed
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.jobs.stages import check_labels, load_network, predicted
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.record import load_perturbation
from uap_lightning.streams.discovery import Discovery
from uap_lightning.streams.estimation import estimate
from uap_lightning.streams.matching import scores, templates
from uap_lightning.streams.whitening import Whitener

log = logging.getLogger(__name__)

RATE = 1e-4
_BATCH = 32
_RESAMPLES = 2_000
# Attacked photographs that estimates are drawn from; the others are tested on.
_LEARN = 256
_PAIRS = 200


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


@dataclass(frozen=True)
class Pairs:
    """How pairs of attacked photographs score, after what happens to images on their way.

    Attributes:
        pattern: its file, below the folder.
        change: ``none``, ``jpeg 90``, ``scale 0.75`` and so on.
        mean: score.
        least: score.
        found: share of the pairs above the threshold of the stated rate, percent.
        from_fourth: share of the photographs of which at least one of three partners does,
            percent.
    """

    pattern: str
    change: str
    mean: float
    least: float
    found: float
    from_fourth: float


@dataclass(frozen=True)
class CleanPairs:
    """Pairs of clean test photographs.

    Attributes:
        count: of pairs.
        threshold: that the whitener states for ``rate``.
        rate: false alarms a pair that were asked for.
        above: pairs above the threshold.
        largest: score.
    """

    count: int
    threshold: float
    rate: float
    above: int
    largest: float


@dataclass(frozen=True)
class Blind:
    """A stream in random order, nothing known.

    Attributes:
        pattern: its file, below the folder.
        attacked: among ``images``.
        images: in the stream.
        found: attacked images that were said to share a pattern.
        false_alarms: clean images that were.
        patterns: that were found.
    """

    pattern: str
    attacked: int
    images: int
    found: int
    false_alarms: int
    patterns: int


def load_patterns(folder: Path, size: int) -> dict[str, tuple[Tensor, str]]:
    """The perturbations below a folder, cut to ``size``: name to (3 x H x W, norm).

    Raises:
        UapError: there is none, or one is smaller.
    """
    found: dict[str, tuple[Tensor, str]] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        rho, record = load_perturbation(path)
        if rho.shape[-1] < size:
            raise UapError(f"{path} has a side of {rho.shape[-1]}: expected at least {size}.")
        name = path.relative_to(folder).with_suffix("").as_posix()
        found[name] = (rho[:, :size, :size], record.p)
    if not found:
        raise UapError(f"--patterns is {folder}, which holds no perturbation file.")
    return found


def attacked(images: Tensor, rho: Tensor) -> Tensor:
    """Images as a service receives them: perturbed, rounded to whole numbers."""
    return (images.float() + rho).round().clamp(0, 255).to(torch.uint8)


def residuals_of(whitener: Whitener, images: Tensor) -> Tensor:
    """Whitened residuals, batch by batch."""
    return torch.cat([whitener(batch) for batch in torch.split(images, _BATCH)])


def curve(
    network: TargetNetwork,
    whitener: Whitener,
    images: Tensor,
    label: Tensor,
    pattern: tuple[str, Tensor, str, float],
    seen: tuple[int, ...],
    seed: int,
) -> list[Point]:
    """Accuracy on attacked images, undefended, after each number seen, and with the known one."""
    name, plain, norm, strength = pattern
    rho = plain * strength
    learn, test = images[:_LEARN], images[_LEARN:]
    truth = label[_LEARN:]
    order = torch.randperm(len(learn), generator=torch.Generator().manual_seed(seed))
    given = attacked(test, rho)
    residuals = residuals_of(whitener, given)
    clean = answers(network, test.float()) == truth

    def point(count: int, estimated: Tensor | None) -> Point:
        given_float = given.float()
        found = None
        if estimated is not None:
            filters = templates(whitener, estimated[None])
            carries = scores(residuals, filters)[:, 0] > whitener.null.threshold(RATE)
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


@torch.no_grad()
def answers(network: TargetNetwork, images: Tensor) -> Tensor:
    """Classes of images, batch by batch, on the processor's side."""
    device = network.mean.device
    parts = torch.split(images, _BATCH)
    return torch.cat([network.predict(batch.to(device)).cpu() for batch in parts])


def interval(right: Tensor, clean: Tensor, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval over photographs of the ratio of two accuracies, percent."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(right), (_RESAMPLES, len(right)), generator=generator)
    ratio = 100 * right[drawn].double().sum(1) / clean[drawn].double().sum(1)
    low, high = torch.quantile(ratio, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Images after JPEG, with Pillow's colour subsampling."""
    changed = []
    for image in images:
        content = BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(content, "JPEG", quality=quality)
        changed.append(torch.from_numpy(np.array(Image.open(content))).permute(2, 0, 1))
    return torch.stack(changed)


def rescaled(images: Tensor, factor: float) -> Tensor:
    """Images made smaller and brought back."""
    side = images.shape[-1]
    resize = partial(functional.interpolate, mode="bilinear", antialias=True)
    back = resize(resize(images.float(), size=round(side * factor)), size=side)
    return back.round().clamp(0, 255).to(torch.uint8)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda images: images,
    **{f"jpeg {quality}": partial(jpeg, quality=quality) for quality in (90, 75, 50)},
    "scale 0.75": partial(rescaled, factor=0.75),
}


def pairs_of(whitener: Whitener, images: Tensor, name: str, rho: Tensor) -> list[Pairs]:
    """The scores of pairs of attacked photographs, unchanged and after each change."""
    threshold, found = whitener.null.threshold(RATE), []
    given = attacked(images[:_PAIRS], rho)
    for change, apply in CHANGES.items():
        residuals = residuals_of(whitener, apply(given))
        score = scores(residuals, residuals)
        upper = torch.triu(torch.ones_like(score, dtype=torch.bool), 1)
        above = 100 * float((score[upper] > threshold).double().mean())
        # The fourth attacked image has three partners before it.
        first = torch.stack([score.roll(-shift, 1).diagonal() for shift in (1, 2, 3)])
        fourth = 100 * float((first > threshold).any(dim=0).double().mean())
        mean, least = float(score[upper].mean()), float(score[upper].min())
        found.append(Pairs(name, change, mean, least, above, fourth))
    return found


def clean_pairs(whitener: Whitener, images: Tensor) -> CleanPairs:
    """Count clean pairs above the stated threshold."""
    residuals = residuals_of(whitener, images)
    score = torch.cat([scores(part, residuals) for part in torch.split(residuals, 100)])
    upper = score[torch.triu(torch.ones_like(score, dtype=torch.bool), 1)]
    threshold = whitener.null.threshold(RATE)
    return CleanPairs(
        len(upper), threshold, RATE, int((upper > threshold).sum()), float(upper.max())
    )


def blind(whitener: Whitener, images: Tensor, name: str, rho: Tensor, seed: int) -> Blind:
    """Three attacked images among 150, and nothing known beforehand."""
    generator = torch.Generator().manual_seed(seed)
    stream = images[torch.randperm(len(images), generator=generator)[:150]].clone()
    places = torch.randperm(len(stream), generator=generator)[:3]
    stream[places] = attacked(stream[places], rho)
    discovery = Discovery(whitener, RATE)
    for batch in torch.split(stream, _BATCH):
        discovery.observe(batch, whitener(batch))
    # An image's first partner is in memory when it comes: it is counted as found with its pair.
    found = sum(suspect.count for suspect in discovery.suspects)
    kept = [image for suspect in discovery.suspects for image in suspect.images]
    truly = sum(any(torch.equal(image, stream[place]) for place in places) for image in kept)
    return Blind(name, 3, len(stream), truly, found - truly, len(discovery.suspects))


def measure(composed: DictConfig, options: argparse.Namespace) -> None:
    """Measure, and write ``results.json``, ``stream.md`` and ``stream.png``."""
    cfg = typed(composed, CraftConfig)
    cfg.data.update(train_crops=1, test_crops=1)
    data = build(cfg.data, Collection)
    network = load_network(cfg.network, cfg.accelerator).eval().requires_grad_(False)
    check_labels(data, network)
    images, label = test_photographs(network, data, options.photographs, cfg.seed)
    patterns = load_patterns(options.patterns, data.crop)
    numbers = list(range(0, len(data.train), max(1, len(data.train) // 600)))
    whitener = Whitener(data.crop).fit(data.train.take(numbers))
    points: list[Point] = []
    pairs: list[Pairs] = []
    blinds: list[Blind] = []
    for name, (rho, norm) in track(patterns.items(), "Measuring"):
        for strength in options.strength if norm == "inf" else [1.0]:
            one = (name, rho, norm, strength)
            points += curve(network, whitener, images, label, one, options.seen, cfg.seed)
        pairs += pairs_of(whitener, images, name, rho)
        blinds.append(blind(whitener, images, name, rho, cfg.seed))
    folder = Path(composed.paths.output_dir)
    content = {
        "schema": 1,
        "status": "ok",
        "network": network.name,
        "size": data.crop,
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


def test_photographs(
    network: TargetNetwork, data: Collection, most: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Test photographs in an order of the seed's, and the labels they are counted against."""
    test: CropDataset = data.test
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:most]
    if len(order) < _LEARN + 20:
        raise UapError(
            f"there are {len(order)} test photographs: expected at least {_LEARN + 20}, to "
            "estimate from and to test on."
        )
    known = bool((test.label >= 0).all())
    label = test.label if known else predicted(network, test, data.cache_dir).prediction
    return test.take(order.tolist()), label[order]


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


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This script's own options, and the overrides that are Hydra's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patterns", type=Path, required=True, help="folder of perturbation files")
    parser.add_argument("--photographs", type=int, default=100_000, help="test photographs at most")
    parser.add_argument("--strength", default="1", help="factors of the l_inf ones, as 1,1.5")
    parser.add_argument("--seen", default="2,4,8,16,32,64", help="attacked images seen")
    options, overrides = parser.parse_known_args(arguments)
    options.command = " ".join(arguments)
    options.strength = [float(factor) for factor in options.strength.split(",")]
    options.seen = tuple(int(count) for count in options.seen.split(","))
    return options, overrides


if __name__ == "__main__":
    chosen, overrides = parse(sys.argv[1:])
    sys.argv = [sys.argv[0], *overrides, "hydra.run.dir=outputs/experiments/stream/${name}"]
    launch(partial(measure, options=chosen), "craft")
