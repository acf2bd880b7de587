"""Discovery: the second image with a pattern gives it away, and each later one adds to it."""

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from uap_lightning.streams.estimation import estimate
from uap_lightning.streams.matching import scores, templates
from uap_lightning.streams.photographs import same_photograph, thumbnails
from uap_lightning.streams.sketches import BITS, Sketches, sketch, sketch_scores
from uap_lightning.streams.whitening import Whitener

# Images of a suspect that are kept to estimate its pattern from.
RESERVOIR = 64
# Numbers of images at which the pattern is estimated anew.
MILESTONES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# From so many on, the estimate is the better template; below, the mean residual.
_TEMPLATE_FROM = 4
# Deviations of a sketch above which full residuals are compared.
_CANDIDATE = 4.0
# Deviations of a sketch that are taken for a pair where the pixels are gone.
_CERTAIN = 8.0
# Correlation of two templates that are one pattern's.
_ONE_PATTERN = 0.5
# Suspects that are kept; the one with the fewest images makes room.
_SUSPECTS = 32


@dataclass(eq=False)
class Suspect:
    """Images that seem to carry one pattern.

    Attributes:
        images: of different photographs, uint8 K x 3 x H x W, at most ``RESERVOIR``.
        template: of length 1, d.
        count: images seen with it, those that are not kept too.
        pattern: estimated from ``images``, 3 x H x W; None while there is one image alone.
        estimated: from how many images.
    """

    images: Tensor
    template: Tensor
    count: int
    pattern: Tensor | None = None
    estimated: int = 0


@dataclass
class Memory:
    """The latest images in which nothing was found.

    Attributes:
        most: images whose sketches are kept, 1,024 bytes each, and thumbnails, 512 bytes each.
        pixels: images that are kept whole.
    """

    most: int
    pixels: int
    numbers: list[int] = field(default_factory=list)
    sketches: Sketches = field(default_factory=lambda: np.empty((0, BITS // 64), np.uint64))
    thumbnails: Tensor = field(default_factory=lambda: torch.empty(0, 256, dtype=torch.float16))
    whole: "OrderedDict[int, Tensor]" = field(default_factory=OrderedDict)
    seen: int = 0

    def add(self, image: Tensor, words: Sketches, thumbnail: Tensor) -> None:
        """Remember an image (uint8, 3 x H x W); the oldest makes room."""
        self.numbers = [*self.numbers, self.seen][-self.most :]
        self.sketches = np.concatenate([self.sketches, words[None]])[-self.most :]
        kept = torch.cat([self.thumbnails, thumbnail[None].half().cpu()])
        self.thumbnails = kept[-self.most :]
        self.whole[self.seen] = image
        if len(self.whole) > self.pixels:
            self.whole.popitem(last=False)
        self.seen += 1

    def forget(self, places: list[int]) -> None:
        """Let go of images by their place."""
        gone = set(places)
        for place in gone:
            self.whole.pop(self.numbers[place], None)
        kept = [place for place in range(len(self.numbers)) if place not in gone]
        self.numbers = [self.numbers[place] for place in kept]
        self.sketches = self.sketches[kept]
        self.thumbnails = self.thumbnails[kept]


class Discovery:
    """Finds patterns that images of a stream share, knowing nothing of them beforehand.

    An image is compared with the template of every suspect, then with the images in memory: a
    pair above the threshold makes a suspect. Different images of one photograph are no evidence.

    Args:
        whitener: fitted.
        rate: false alarms an image: the chance that a clean one is taken for another's partner.
        memory: images whose sketches are kept.
        pixels: images that are kept whole, at most ``memory``.
        least: score that a pair must reach whatever the whitener's null says, and half of it an
            image with a template.
    """

    def __init__(
        self,
        whitener: Whitener,
        rate: float = 1e-4,
        memory: int = 2_048,
        pixels: int = 256,
        least: float = 0.0,
    ) -> None:
        self.whitener = whitener
        self.rate = rate
        self.least = least
        self.memory = Memory(memory, pixels)
        self.suspects: list[Suspect] = []

    def observe(self, images: Tensor, residuals: Tensor) -> list[Suspect | None]:
        """Take in images and say which suspect each belongs to.

        Args:
            images: uint8 N x 3 x H x W.
            residuals: the same, whitened, N x d.
        """
        words, small = sketch(residuals), thumbnails(images)
        found = []
        for image, residual, word, thumbnail in zip(images, residuals, words, small, strict=True):
            suspect = self._join(image, residual) or self._pair(image, residual, word, thumbnail)
            if suspect is None:
                self.memory.add(image, word, thumbnail)
            found.append(suspect)
        for suspect in self.suspects:
            self._refine(suspect)
        self._merge()
        return [self._present(suspect) for suspect in found]

    def _join(self, image: Tensor, residual: Tensor) -> Suspect | None:
        """Add an image to the suspect whose template it carries."""
        if not self.suspects:
            return None
        stacked = torch.stack([suspect.template for suspect in self.suspects])
        found = scores(residual[None], stacked)[0]
        best = int(found.argmax())
        threshold = self.whitener.null.threshold(self.rate / len(self.suspects))
        if float(found[best]) <= max(threshold, self.least / 2):
            return None
        suspect = self.suspects[best]
        kept = same_photograph(thumbnails(image[None]), thumbnails(suspect.images))
        if bool(kept.any()):
            # Until there is an estimate, the template holds much of these very photographs.
            return suspect if suspect.estimated >= _TEMPLATE_FROM else None
        if len(suspect.images) < RESERVOIR:
            suspect.images = torch.cat([suspect.images, image[None]])
        suspect.count += 1
        return suspect

    def _pair(
        self, image: Tensor, residual: Tensor, words: Sketches, thumbnail: Tensor
    ) -> Suspect | None:
        """Make a suspect of an image and those in memory that share a pattern with it."""
        memory = self.memory
        if not memory.numbers:
            return None
        found = sketch_scores(words[None], memory.sketches)[0]
        other = ~same_photograph(thumbnail[None].cpu(), memory.thumbnails.float())[0].numpy()
        candidates = np.flatnonzero((found > _CANDIDATE) & other).tolist()
        threshold = self.whitener.null.threshold(self.rate / len(memory.numbers))
        threshold = max(threshold, self.least)
        partners, images = [], [image]
        for place in candidates:
            whole = memory.whole.get(memory.numbers[place])
            if whole is None:
                if found[place] > _CERTAIN:
                    partners.append(place)
            elif float(scores(residual[None], self.whitener(whole[None]))) > threshold:
                partners.append(place)
                images.append(whole)
        if not partners:
            return None
        memory.forget(partners)
        if len(self.suspects) == _SUSPECTS:
            self.suspects.remove(min(self.suspects, key=lambda suspect: suspect.count))
        suspect = Suspect(torch.stack(images), residual, 1 + len(partners))
        self.suspects.append(suspect)
        return suspect

    def _refine(self, suspect: Suspect) -> None:
        """Estimate a suspect's pattern anew where enough images have come."""
        reached = max((n for n in MILESTONES if n <= len(suspect.images)), default=0)
        if reached <= suspect.estimated:
            return
        reestimate(self.whitener, suspect)

    def _merge(self) -> None:
        """Make one of suspects whose templates are one pattern's, the later of the earlier."""
        for later in reversed(self.suspects[1:]):
            for earlier in self.suspects[: self.suspects.index(later)]:
                if float(earlier.template @ later.template) > _ONE_PATTERN:
                    earlier.images = torch.cat([earlier.images, later.images])[:RESERVOIR]
                    earlier.count += later.count
                    self._refine(earlier)
                    self.suspects.remove(later)
                    break

    def _present(self, suspect: Suspect | None) -> Suspect | None:
        """The suspect, or the one that it became part of."""
        if suspect is None or suspect in self.suspects:
            return suspect
        alike = [float(other.template @ suspect.template) for other in self.suspects]
        return self.suspects[int(np.argmax(alike))] if alike else None


def reestimate(whitener: Whitener, suspect: Suspect) -> None:
    """Estimate a suspect's pattern from all its images, at least 2, and make its template."""
    suspect.pattern = estimate(suspect.images)
    suspect.estimated = len(suspect.images)
    if suspect.estimated >= _TEMPLATE_FROM:
        suspect.template = templates(whitener, suspect.pattern[None])[0]
    else:
        mean = whitener(suspect.images).mean(dim=0)
        suspect.template = mean / mean.norm()
