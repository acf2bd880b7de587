"""Discovery: the second image with a pattern gives it away, and each later one adds to it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uap_lightning.streams.estimation import estimate
from uap_lightning.streams.matching import explained, scores, templates
from uap_lightning.streams.memory import Memory
from uap_lightning.streams.photographs import same_photograph, thumbnails
from uap_lightning.streams.sketches import Sketches, sketch
from uap_lightning.streams.whitening import Whitener

# Images of a suspect that are kept to estimate its pattern from.
RESERVOIR = 64
# Numbers of images at which the pattern is estimated anew.
MILESTONES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# From so many on, the estimate is the better template; below, the mean residual.
TEMPLATE_FROM = 4
# Deviations of a sketch above which full residuals are compared.
_CANDIDATE = 4.0
# Deviations of a sketch that are taken for a pair where the pixels are gone.
_CERTAIN = 8.0
# Correlation of two templates that are one pattern's.
ONE_PATTERN = 0.5
# Suspects that are kept.
SUSPECTS = 32


@dataclass(eq=False)
class Suspect:
    """Images that seem to carry one pattern.

    Attributes:
        images: of different photographs, uint8 K x 3 x H x W, at most ``RESERVOIR``, on the CPU.
        template: of length 1, d.
        count: images seen with it, those that are not kept too.
        latest: number of the latest of them, in the order of the stream.
        pattern: estimated from ``images``, 3 x H x W; None while there is one image alone.
        estimated: from how many images.
        harmful: what verification said of the latest estimate; None where it has not looked.
        into: the suspect that it became part of.
    """

    images: Tensor
    template: Tensor
    count: int
    latest: int = 0
    pattern: Tensor | None = None
    estimated: int = 0
    harmful: bool | None = None
    into: "Suspect | None" = None


class Discovery:
    """Finds patterns that images of a stream share, knowing nothing of them beforehand.

    An image is compared with the template of every suspect, then with the images in memory: a
    pair above the threshold makes a suspect. Different images of one photograph are no evidence.

    When there are too many suspects, one that is not known to be harmful goes first, of these the
    one with the fewest images, of these the one that has waited longest for another; its images
    go back to memory, where the next one with its pattern finds them.

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
        self.seen = 0

    @torch.no_grad()
    def observe(self, images: Tensor, residuals: Tensor) -> list[Suspect | None]:
        """Take in images and say which suspect each belongs to.

        Args:
            images: uint8 N x 3 x H x W.
            residuals: the same, whitened, N x d.
        """
        small = thumbnails(images)
        found = [self._place(*one) for one in zip(images, residuals, small, strict=True)]
        for suspect in self.suspects:
            self._refine(suspect)
        self._merge()
        return [None if suspect is None else _whole(suspect) for suspect in found]

    def _place(self, image: Tensor, residual: Tensor, thumbnail: Tensor) -> Suspect | None:
        """The suspect of one image; without one, the image is remembered."""
        self.seen += 1
        suspect = self._match(image, residual)
        joined = suspect is not None and self._join(suspect, image)
        if suspect is not None and joined:
            return suspect
        words = sketch(residual[None])[0]
        suspect = self._pair(image, residual, words, thumbnail)
        if suspect is None:
            self.memory.add(image, words, float(residual.norm()), thumbnail)
        return suspect

    def _match(self, image: Tensor, residual: Tensor) -> Suspect | None:
        """The suspect whose template an image carries."""
        if not self.suspects:
            return None
        stacked = torch.stack([suspect.template for suspect in self.suspects])
        found = scores(residual[None], stacked)[0]
        threshold = self.whitener.null.threshold(self.rate / len(self.suspects))
        for best in found.argsort(descending=True).tolist():
            if float(found[best]) <= max(threshold, self.least / 2):
                return None
            suspect: Suspect = self.suspects[best]
            if suspect.pattern is None or suspect.estimated < TEMPLATE_FROM:
                return suspect
            one = (suspect.pattern[None], suspect.template[None], found[best][None])
            if bool(explained(self.whitener, image[None].float(), *one)):
                return suspect
        return None

    def _join(self, suspect: Suspect, image: Tensor) -> bool:
        """Add an image to a suspect, unless it is no evidence that there is one."""
        image = image.cpu()
        kept = same_photograph(thumbnails(image[None]), thumbnails(suspect.images))
        if bool(kept.any()):
            # Until there is an estimate, the template holds much of these very photographs.
            return suspect.estimated >= TEMPLATE_FROM
        if len(suspect.images) < RESERVOIR:
            suspect.images = torch.cat([suspect.images, image[None]])
        suspect.count += 1
        suspect.latest = self.seen
        return True

    def _pair(
        self, image: Tensor, residual: Tensor, words: Sketches, thumbnail: Tensor
    ) -> Suspect | None:
        """Make a suspect of an image and those in memory that share a pattern with it."""
        memory = self.memory
        found = memory.search(words)
        threshold = self.whitener.null.threshold(self.rate / max(1, len(memory)))
        threshold = max(threshold, self.least)
        length = float(residual.norm())
        partners, images = [], [image.cpu()]
        small = thumbnail[None].cpu()
        for place in np.flatnonzero(found > _CANDIDATE).tolist():
            if bool(same_photograph(small, memory.thumbnails[place][None].float()).any()):
                continue
            whole = memory.whole.get(int(memory.numbers[place]))
            if whole is None:
                # The signs of what is left of a nearly flat image tell little.
                if found[place] * length * memory.lengths[place] > _CERTAIN:
                    partners.append(place)
            else:
                other = self.whitener(whole[None].to(residual.device))
                if float(scores(residual[None], other)) > threshold:
                    partners.append(place)
                    small = torch.cat([small, memory.thumbnails[place][None].float()])
                    images.append(whole)
        if not partners:
            return None
        memory.forget(partners)
        if len(self.suspects) == SUSPECTS:
            self._evict()
        kept = torch.stack(images[:RESERVOIR])
        suspect = Suspect(kept, residual.clone(), 1 + len(partners), self.seen)
        self.suspects.append(suspect)
        return suspect

    def _evict(self) -> None:
        """Let go of the suspect that is least likely to be missed."""
        gone = min(self.suspects, key=lambda s: (s.harmful is True, s.count, s.latest))
        self.suspects.remove(gone)
        residuals = self.whitener(gone.images.to(gone.template.device))
        rows = zip(gone.images, sketch(residuals), residuals, thumbnails(gone.images), strict=True)
        for image, words, residual, thumbnail in rows:
            self.memory.add(image, words, float(residual.norm()), thumbnail)

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
                if self._one_pattern(earlier, later):
                    small = thumbnails(later.images)
                    new = ~same_photograph(small, thumbnails(earlier.images)).any(dim=1)
                    earlier.images = torch.cat([earlier.images, later.images[new]])[:RESERVOIR]
                    earlier.count += later.count
                    earlier.latest = max(earlier.latest, later.latest)
                    later.into = earlier
                    self.suspects.remove(later)
                    self._refine(earlier)
                    break

    def _one_pattern(self, some: Suspect, other: Suspect) -> bool:
        """Whether two suspects are images of one pattern, and not of a part of it."""
        if float(some.template @ other.template) <= ONE_PATTERN:
            return False
        if some.harmful is not other.harmful and False in (some.harmful, other.harmful):
            return False
        for whole, images in ((some, other.images), (other, some.images)):
            if whole.pattern is not None and whole.estimated >= TEMPLATE_FROM:
                given = images.to(whole.pattern.device).float()
                filters = whole.template.expand(len(given), -1)
                found = scores(self.whitener(given), whole.template[None])[:, 0]
                patterns = whole.pattern.expand_as(given)
                part = explained(self.whitener, given, patterns, filters, found)
                if float(part.double().mean()) < 0.5:
                    return False
        return True


def _whole(suspect: Suspect) -> Suspect:
    """The suspect, or the one that it became part of."""
    while suspect.into is not None:
        suspect = suspect.into
    return suspect


def reestimate(whitener: Whitener, suspect: Suspect) -> None:
    """Estimate a suspect's pattern from all its images, at least 2, and make its template."""
    images = suspect.images.to(whitener.power.device)
    suspect.pattern = estimate(images)
    suspect.estimated = len(images)
    if suspect.estimated >= TEMPLATE_FROM:
        suspect.template = templates(whitener, suspect.pattern[None])[0]
    else:
        mean = whitener(images).mean(dim=0)
        suspect.template = mean / mean.norm().clamp_min(1e-6)
