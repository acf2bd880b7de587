"""Discovery: the second image with a pattern gives it away, and each later one adds to it."""

import numpy as np
import torch
from torch import Tensor

from uap_lightning.streams.matching import explained, scores
from uap_lightning.streams.memory import Memory
from uap_lightning.streams.moving import in_step, moves_of
from uap_lightning.streams.photographs import same_photograph, same_scene, thumbnails
from uap_lightning.streams.sketches import DESCRIBED, Sketches, sketch
from uap_lightning.streams.suspects import (
    RESERVOIR,
    TEMPLATE_FROM,
    Suspect,
    one_pattern,
    reestimate,
)
from uap_lightning.streams.whitening import Whitener

# Numbers of images at which the pattern is estimated anew.
MILESTONES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Deviations of a sketch above which full residuals are compared.
_CANDIDATE = 4.0
# Share of the false alarms that is left to patterns that move.
MOVING = 0.1
# Deviations of a sketch that are taken for a pair where the pixels are gone.
_CERTAIN = 8.0
# Suspects that are kept.
SUSPECTS = 32


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
    def observe(
        self, images: Tensor, residuals: Tensor, descriptions: Tensor | None = None
    ) -> list[Suspect | None]:
        """Take in images and say which suspect each belongs to.

        Args:
            images: uint8 N x 3 x H x W.
            residuals: the same, whitened, N x d.
            descriptions: of these, N x e; without them, patterns that move are not looked for.
        """
        described = [None] * len(images) if descriptions is None else descriptions
        rows = zip(images, residuals, described, thumbnails(images), strict=True)
        found = [self._place(*one) for one in rows]
        for suspect in self.suspects:
            self._refine(suspect)
        self._merge()
        return [None if suspect is None else suspect.whole() for suspect in found]

    def _place(
        self, image: Tensor, residual: Tensor, description: Tensor | None, thumbnail: Tensor
    ) -> Suspect | None:
        """The suspect of one image; without one, the image is remembered."""
        self.seen += 1
        suspect = self._match(image, residual)
        if suspect is not None and self._join(suspect, image):
            return suspect
        if description is not None:
            suspect = self._match_moved(image, residual, description)
            if suspect is not None:
                return suspect
        words, described = sketch(residual[None])[0], None
        suspect = self._pair(image, residual, words, thumbnail)
        if suspect is None and description is not None:
            described = sketch(description[None], DESCRIBED)[0]
            suspect = self._pair_moved(image, residual, description, described)
        if suspect is None:
            self.memory.add(image, words, float(residual.norm()), thumbnail, described)
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

    def _match_moved(self, image: Tensor, residual: Tensor, description: Tensor) -> Suspect | None:
        """The suspect whose template an image carries in another place; the image joins it."""
        if not self.suspects:
            return None
        stacked = torch.stack([suspect.description for suspect in self.suspects])
        found = scores(description[None], stacked)[0]
        threshold = self.whitener.spectral_null.threshold(MOVING * self.rate / len(self.suspects))
        best = int(found.argmax())
        if float(found[best]) <= threshold:
            return None
        suspect = self.suspects[best]
        moves = moves_of(residual[None], suspect.template, self.whitener.size)
        if float(moves.score) <= max(self.whitener.null.threshold(self.rate), self.least / 2):
            return None
        stepped = in_step(image[None].cpu(), moves)[0]
        if suspect.estimated < TEMPLATE_FROM and bool(same_scene(stepped, suspect.images).any()):
            return None
        if suspect.pattern is not None and suspect.estimated >= TEMPLATE_FROM:
            one = (suspect.pattern[None], suspect.template[None], moves.score)
            given = stepped[None].to(residual.device).float()
            if not bool(explained(self.whitener, given, *one)):
                return None
        return suspect if self._join(suspect, stepped) else None

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
                score = float(scores(residual[None], other))
                if score > threshold and not bool(same_scene(image.cpu(), whole[None])):
                    partners.append(place)
                    small = torch.cat([small, memory.thumbnails[place][None].float()])
                    images.append(whole)
        if not partners:
            return None
        return self._suspect(images, residual, partners)

    def _pair_moved(
        self, image: Tensor, residual: Tensor, description: Tensor, described: Sketches
    ) -> Suspect | None:
        """Make a suspect of an image and those in memory that have its pattern in other places."""
        memory, whitener = self.memory, self.whitener
        found = memory.search_described(described)
        rate = self.rate / max(1, len(memory))
        threshold, least = whitener.spectral_null.threshold(MOVING * rate), self.least
        least = max(least, whitener.null.threshold(self.rate))
        partners, images = [], [image.cpu()]
        for place in np.flatnonzero(found > _CANDIDATE).tolist():
            whole = memory.whole.get(int(memory.numbers[place]))
            if whole is None:
                continue
            other, descriptions = whitener.describe(whole[None].to(residual.device))
            if float(scores(description[None], descriptions)) <= threshold:
                continue
            moves = moves_of(other, residual, whitener.size)
            stepped = in_step(whole[None], moves)[0]
            alike = same_scene(stepped, torch.stack(images))
            if float(moves.score) > least and not bool(alike.any()):
                partners.append(place)
                images.append(stepped)
        return self._suspect(images, residual, partners) if partners else None

    def _suspect(self, images: list[Tensor], residual: Tensor, partners: list[int]) -> Suspect:
        """A suspect of an image, whose residual is the template, and its partners in memory."""
        kept = torch.stack(images[:RESERVOIR])  # before memory uses their places again
        self.memory.forget(partners)
        if len(self.suspects) == SUSPECTS:
            self._evict()
        description = self.whitener.descriptions(residual)[0]
        suspect = Suspect(kept, residual.clone(), description, 1 + len(partners), self.seen)
        self.suspects.append(suspect)
        return suspect

    def _evict(self) -> None:
        """Let go of the suspect that is least likely to be missed."""
        gone = min(self.suspects, key=lambda s: (s.harmful is True, s.count, s.latest))
        self.suspects.remove(gone)
        residuals, descriptions = self.whitener.describe(gone.images.to(gone.template.device))
        words, described = sketch(residuals), sketch(descriptions, DESCRIBED)
        lengths = residuals.norm(dim=1).tolist()
        rows = zip(gone.images, words, lengths, thumbnails(gone.images), described, strict=True)
        for row in rows:
            self.memory.add(*row)

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
                if one_pattern(self.whitener, earlier, later):
                    small = thumbnails(later.images)
                    new = ~same_photograph(small, thumbnails(earlier.images)).any(dim=1)
                    earlier.images = torch.cat([earlier.images, later.images[new]])[:RESERVOIR]
                    earlier.count += later.count
                    earlier.latest = max(earlier.latest, later.latest)
                    later.into = earlier
                    self.suspects.remove(later)
                    self._refine(earlier)
                    break
