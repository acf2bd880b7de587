"""Suspects: images that seem to carry one pattern, and what is known of it."""

from dataclasses import dataclass

from torch import Tensor

from uap_lightning.streams.estimation import estimate
from uap_lightning.streams.matching import explained, scores, templates
from uap_lightning.streams.whitening import Whitener

# Images of a suspect that are kept to estimate its pattern from.
RESERVOIR = 64
# From so many on, the estimate is the better template; below, the mean residual.
TEMPLATE_FROM = 4
# Correlation of two templates that are one pattern's.
ONE_PATTERN = 0.5


@dataclass(eq=False)
class Suspect:
    """Images that seem to carry one pattern.

    Attributes:
        images: of different photographs, uint8 K x 3 x H x W, at most ``RESERVOIR``, on the CPU,
            each rolled and negated so that all have the pattern in one place.
        template: of length 1, d.
        description: of the template.
        count: images seen with it, those that are not kept too.
        latest: number of the latest of them, in the order of the stream.
        pattern: estimated from ``images``, 3 x H x W; None while there is one image alone.
        estimated: from how many images.
        harmful: what verification said of the latest estimate; None where it has not looked.
        into: the suspect that it became part of.
    """

    images: Tensor
    template: Tensor
    description: Tensor
    count: int
    latest: int = 0
    pattern: Tensor | None = None
    estimated: int = 0
    harmful: bool | None = None
    into: "Suspect | None" = None

    def whole(self) -> "Suspect":
        """This suspect, or the one that it became part of."""
        return self if self.into is None else self.into.whole()


def one_pattern(whitener: Whitener, some: Suspect, other: Suspect) -> bool:
    """Whether two suspects are images of one pattern, and not of a part of it."""
    if float(some.template @ other.template) <= ONE_PATTERN:
        return False
    if some.harmful is not other.harmful and False in (some.harmful, other.harmful):
        return False
    for whole, images in ((some, other.images), (other, some.images)):
        if whole.pattern is not None and whole.estimated >= TEMPLATE_FROM:
            given = images.to(whole.pattern.device).float()
            filters = whole.template.expand(len(given), -1)
            found = scores(whitener(given), whole.template[None])[:, 0]
            patterns = whole.pattern.expand_as(given)
            part = explained(whitener, given, patterns, filters, found)
            if float(part.double().mean()) < 0.5:
                return False
    return True


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
    suspect.description = whitener.descriptions(suspect.template)[0]
