"""The search of a whole collection: statistics of its own, patterns, and who carries them.

Each stage takes batches of images, so that memory does not grow with the collection.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.streams.discovery import Discovery
from uap_lightning.streams.matching import scores, templates
from uap_lightning.streams.photographs import same_photograph, thumbnails
from uap_lightning.streams.store import Known
from uap_lightning.streams.suspects import RESERVOIR, Suspect, reestimate
from uap_lightning.streams.whitening import Whitener

# Where statistics come from the collection itself, a pair below is no evidence: among 240,000 pairs
# of ImageNet photographs the largest score is 23 (two with the same thin frame), where published
# perturbations have 60 to 330 at 224 x 224 pixels and 35 to 120 at 128 x 128.
LEAST_PAIR = 25.0
# An image with a template; the strongest clean one has 7, the weakest attacked one 30 at 224.
LEAST_MATCH = LEAST_PAIR / 2
# Images that are looked at for as many different photographs as statistics are taken from.
_LOOKED_AT = 4
FEWEST = 12
# Images whose sketches are kept, 2 KB each.
MEMORY = 20_000
# Bytes of images that are kept whole.
_WHOLE = 2**28


@dataclass(frozen=True)
class Pattern:
    """A pattern that images of the collection carry.

    Attributes:
        source: name of the known pattern's file; None where it was found here.
        rho: 3 x H x W, pixel units.
        template: what its matched filter looks for, of length 1, d.
        estimated: from how many images; 0 where it was known.
    """

    source: str | None
    rho: Tensor
    template: Tensor
    estimated: int


def sample_size(size: int) -> int:
    """Images of side ``size`` to take statistics from, which takes a gigabyte: 48 to 600."""
    return max(48, min(600, 600 * 224**2 // size**2))


@torch.no_grad()
def draw_sample(batches: Iterable[Tensor], most: int) -> Tensor:
    """The first ``most`` images of different photographs, none of one colour: uint8.

    Args:
        batches: uint8 N x 3 x H x W each, in random order.
        most: at most four times as many images are looked at.

    Raises:
        UapError: there are fewer than 12.
    """
    chosen: list[Tensor] = []
    small = torch.empty(0, 256)
    looked_at = 0
    for batch in batches:
        for image, thumbnail in zip(batch, thumbnails(batch), strict=True):
            looked_at += 1
            new = bool(thumbnail.any()) and not bool(same_photograph(thumbnail[None], small).any())
            if new and len(chosen) < most:
                chosen.append(image)
                small = torch.cat([small, thumbnail[None]])
        if len(chosen) == most or looked_at >= _LOOKED_AT * most:
            break
    if len(chosen) < FEWEST:
        raise UapError(
            f"there are {looked_at} images to compare, of {len(chosen)} different photographs that "
            f"are not of one colour: expected at least {FEWEST}, to tell what photographs have in "
            "common from a pattern; add other photographs of your own to the folder."
        )
    return torch.stack(chosen)


def pair_threshold(whitener: Whitener, rate: float, count: int) -> float:
    """The score that a pair of ``count`` images must reach."""
    return max(whitener.null.threshold(rate / max(1, min(count, MEMORY))), LEAST_PAIR)


@dataclass(frozen=True)
class Looked:
    """What was seen of a batch of images.

    Attributes:
        images: uint8 N x 3 x H x W.
        residuals: the same, whitened, N x d.
        found: the filter that each matches; -1 for none.
        scores: of each, with the filter that comes nearest.
    """

    images: Tensor
    residuals: Tensor
    found: list[int]
    scores: list[float]


class Filters:
    """The matched filters of several patterns.

    Args:
        whitener: fitted.
        filters: template of each, K x d; K may be 0.
        rate: false alarms an image, of all patterns together.
    """

    def __init__(self, whitener: Whitener, filters: Sequence[Tensor], rate: float) -> None:
        self.whitener = whitener
        self.filters = torch.stack([*filters]) if filters else None
        count = max(1, len(filters))
        self.threshold = max(whitener.null.threshold(rate / count), LEAST_MATCH)

    def match(self, residuals: Tensor) -> tuple[list[int], list[float]]:
        """Of N x d residuals, the pattern of each (-1 for none) and its best score."""
        if self.filters is None:
            return [-1] * len(residuals), [float("-inf")] * len(residuals)
        best = scores(residuals, self.filters).max(dim=1)
        found = torch.where(best.values > self.threshold, best.indices, -1)
        return found.tolist(), best.values.tolist()

    @torch.no_grad()
    def look(self, images: Tensor) -> Looked:
        """Whiten and match uint8 N x 3 x H x W images, on the whitener's device."""
        images = images.to(self.whitener.power.device)
        residuals = self.whitener(images)
        return Looked(images, residuals, *self.match(residuals))


def known_patterns(whitener: Whitener, known: Sequence[Known]) -> list[Pattern]:
    """Patterns of a store with their templates."""
    device = whitener.power.device
    made = []
    for one in known:
        rho = one.pattern.to(device)
        made.append(Pattern(one.name, rho, templates(whitener, rho[None])[0], 0))
    return made


@torch.no_grad()
def discover(whitener: Whitener, batches: Iterable[Looked], rate: float) -> list[Suspect]:
    """What images share that carry no known pattern.

    Args:
        whitener: fitted.
        batches: images in random order, compared with the known patterns.
        rate: false alarms an image.
    """
    whole = max(1, min(MEMORY, _WHOLE // (3 * whitener.size**2)))
    discovery = Discovery(whitener, rate, MEMORY, whole, LEAST_PAIR)
    device = whitener.power.device
    for seen in batches:
        unknown = [place for place, which in enumerate(seen.found) if which < 0]
        if unknown:
            images, residuals = seen.images[unknown], seen.residuals[unknown]
            discovery.observe(images.to(device), residuals.to(device))
    return discovery.suspects


def incomplete(suspects: Sequence[Suspect], *, seen_all: bool) -> bool:
    """Whether a pattern could be estimated from more images than it was.

    Args:
        suspects: that were found.
        seen_all: whether all images of the collection were searched. The pixels of some that carry
            the pattern may all the same have been gone when it was found.
    """
    return any(
        len(s.images) < (min(RESERVOIR, s.count) if seen_all else RESERVOIR) for s in suspects
    )


def complete(
    whitener: Whitener, carriers: Iterable[tuple[Tensor, int]], suspects: Sequence[Suspect]
) -> None:
    """Estimate the pattern of each suspect from up to 64 images of the whole collection.

    Args:
        whitener: fitted.
        carriers: images, uint8 3 x H x W, each with the number of the suspect that it matches.
        suspects: with their templates; their images and patterns are changed.
    """
    for image, which in carriers:
        _take(suspects[which], image)
        if all(len(suspect.images) == RESERVOIR for suspect in suspects):
            break
    for suspect in suspects:
        if len(suspect.images) > 1:
            reestimate(whitener, suspect)


def _take(suspect: Suspect, image: Tensor) -> None:
    image = image.cpu()
    if len(suspect.images) < RESERVOIR:
        same = same_photograph(thumbnails(image[None]), thumbnails(suspect.images))
        if not bool(same.any()):
            suspect.images = torch.cat([suspect.images, image[None]])


def found_patterns(suspects: Sequence[Suspect]) -> list[Pattern]:
    """The estimates, that of most images first."""
    return [
        Pattern(None, s.pattern, s.template, s.estimated)
        for s in sorted(suspects, key=lambda s: -s.count)
        if s.pattern is not None
    ]
