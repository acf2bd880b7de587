"""Pairs of attacked and of clean photographs, and patterns among many clean ones, found blind."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from experiments.stream_setting import attacked, residuals_of
from uap_lightning.streams.discovery import Discovery
from uap_lightning.streams.matching import scores
from uap_lightning.streams.whitening import Whitener

# False alarms a pair, or an image, that thresholds are stated for.
RATE = 1e-4
_BATCH = 32
_PAIRS = 200


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
        discovery.observe(batch, *whitener.describe(batch))
    # An image's first partner is in memory when it comes: it is counted as found with its pair.
    found = sum(suspect.count for suspect in discovery.suspects)
    kept = [image for suspect in discovery.suspects for image in suspect.images]
    truly = sum(any(torch.equal(image, stream[place]) for place in places) for image in kept)
    return Blind(name, 3, len(stream), truly, found - truly, len(discovery.suspects))
