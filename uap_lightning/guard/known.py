"""The patterns that a guard with memory knows: those of its store, and those it found itself."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import plain
from uap_lightning.streams.discovery import MOVING, Discovery
from uap_lightning.streams.matching import explained, scores, templates
from uap_lightning.streams.moving import moves_of, placed
from uap_lightning.streams.store import FOUND, Known, PatternStore, name_for
from uap_lightning.streams.suspects import ONE_PATTERN, RESERVOIR, TEMPLATE_FROM, Suspect
from uap_lightning.streams.verification import Verdict, verify
from uap_lightning.streams.whitening import Whitener

log = logging.getLogger(__name__)

# Images from which an estimate is good enough to be subtracted.
SUBTRACT_FROM = TEMPLATE_FROM
# Clean images of the stream that a pattern is verified on at most, and as many that carried it:
# three predictions of each hold up the batch in which a pattern is found.
_REFERENCES = 32


@dataclass(eq=False)
class Found:
    """A suspect with its name and what verification said of it."""

    suspect: Suspect
    name: str
    verdict: Verdict | None = None
    verified: int = 0


@dataclass(frozen=True)
class Match:
    """What the matched filters say of a batch.

    Attributes:
        which: of ``names`` each image carries, N; -1 for none. On the CPU.
        score: of the best filter, N; minus infinity where nothing is known.
        names: of the known patterns.
        carried: the pattern as it lies in each image that carries one, by the image's place:
            3 x H x W, pixel units.
    """

    which: Tensor
    score: Tensor
    names: Sequence[str]
    carried: Mapping[int, Tensor]


class KnownPatterns:
    """Matched filters of the store's patterns and of this guard's own finds.

    Args:
        whitener: fitted, on the device of the images.
        store: None where patterns are kept in this process alone.
        rate: false alarms an image, of all filters together.
    """

    def __init__(self, whitener: Whitener, store: PatternStore | None, rate: float) -> None:
        self.whitener = whitener
        self.store = store
        self.rate = rate
        self.found: list[Found] = []
        self._stored: list[Known] = []
        self._unwritable = False
        self.gather()

    @property
    def names(self) -> list[str]:
        """Of all patterns that have a filter."""
        return self._filters[0]

    def read(self) -> None:
        """Take in what has changed in the store."""
        if self.store is None:
            return
        known = self.store.known()
        # What has not changed is the same object.
        if [id(one) for one in known] != [id(one) for one in self._stored]:
            self._stored = known
            self.gather()

    def match(self, images: Tensor, residuals: Tensor, descriptions: Tensor) -> Match:
        """The known pattern that each image carries, where it was found or moved.

        Args:
            images: float N x 3 x H x W, 0-255.
            residuals: the same, whitened, N x d.
            descriptions: of these, N x e.
        """
        names, patterns, filters, described = self._filters
        if not names:
            score = torch.full((len(images),), float("-inf"), device=images.device)
            return Match(torch.full((len(images),), -1), score, names, {})
        best = scores(residuals, filters).max(dim=1)
        score = best.values.clone()
        threshold = self.whitener.null.threshold(self.rate / len(names))
        which = torch.where(best.values > threshold, best.indices, -1)
        carried = {}
        places = (which >= 0).nonzero()[:, 0]
        if len(places):
            chosen = which[places]
            laid = patterns[chosen]
            one = (laid, filters[chosen], score[places])
            whole = explained(self.whitener, images[places], *one)
            which[places] = torch.where(whole, chosen, -1)
            carried = dict(zip(places.tolist(), laid, strict=True))
        near = scores(descriptions, described).max(dim=1)
        threshold = self.whitener.spectral_null.threshold(MOVING * self.rate / len(names))
        places = ((which < 0) & (near.values > threshold)).nonzero()[:, 0]
        if len(places):
            chosen = near.indices[places]
            moves = moves_of(residuals[places], filters[chosen], self.whitener.size)
            laid = placed(patterns[chosen], moves)
            maps = filters[chosen].view_as(laid)
            one = (laid, placed(maps, moves).flatten(1), moves.score)
            whole = explained(self.whitener, images[places], *one)
            whole &= moves.score > self.whitener.null.threshold(self.rate)
            which[places] = torch.where(whole, chosen, -1)
            score[places] = torch.where(whole, moves.score, score[places])
            carried |= dict(zip(places.tolist(), laid, strict=True))
        return Match(which.cpu(), score, names, carried)

    def refining(self) -> set[str]:
        """Names of patterns whose estimate more images would improve."""
        stored = {known.name for known in self._stored if known.estimated < RESERVOIR}
        return stored | {found.name for found in self.found}

    @torch.no_grad()
    def follow(
        self, discovery: Discovery, predict: Callable[[Tensor], Tensor], network: str
    ) -> bool:
        """Keep the finds in step with discovery's suspects; verify and store new estimates.

        Args:
            discovery: that has just observed a batch.
            predict: float images N x 3 x H x W to classes, N.
            network: name of the one that predicts.

        Returns:
            whether the filters are other ones now.
        """
        named = {id(found.suspect): found for found in self.found}
        self.found = [
            named.get(id(suspect)) or Found(suspect, name_for(suspect.template))
            for suspect in discovery.suspects
        ]
        # A find that is gone may have had a filter.
        changed = bool({id(found.suspect) for found in self.found} ^ set(named))
        for found in self.found:
            suspect = found.suspect
            if suspect.pattern is None or suspect.estimated == found.verified:
                continue
            if suspect.estimated < SUBTRACT_FROM:
                continue
            # A better estimate of what did harm does harm: looked at anew when images have doubled.
            doubled = suspect.estimated.bit_length() > found.verified.bit_length()
            if found.verdict is None or not found.verdict.harmful or doubled:
                found.verdict = verify(predict, suspect.pattern, _references(suspect, discovery))
            found.verified = suspect.estimated
            suspect.harmful = found.verdict.harmful
            changed = True
            if suspect.harmful:
                self._keep(found, found.verdict, network)
        if changed:
            self.gather()
        return changed

    def _keep(self, found: Found, verdict: Verdict, network: str) -> None:
        """Write a find to the store, in place of an estimate of the same pattern by fewer."""
        suspect = found.suspect
        if self.store is None or suspect.pattern is None:
            return
        for known in self._stored:
            guessed = known.record.attack.get("name") == FOUND
            if guessed and known.name not in {other.name for other in self.found}:
                template = templates(self.whitener, known.pattern.to(suspect.pattern.device)[None])
                if float(template[0] @ suspect.template) > ONE_PATTERN:
                    found.name = known.name
        if any(k.name == found.name and k.estimated > suspect.estimated for k in self._stored):
            return
        provenance = {"images": suspect.estimated, "changed": verdict.changed}
        try:
            self.store.add(suspect.pattern, found.name, network, provenance)
        except (UapError, OSError) as error:
            if not self._unwritable:
                log.warning("%s The pattern is kept in this process alone.", plain(str(error)))
            self._unwritable = True

    def gather(self) -> None:
        """Make the filters of everything that is known."""
        patterns = {known.name: known.pattern for known in self._stored}
        images = {known.name: known.estimated for known in self._stored}
        for found in self.found:
            suspect = found.suspect
            better = found.verified >= images.get(found.name, 0)
            if suspect.harmful and suspect.pattern is not None and better:
                patterns[found.name] = suspect.pattern
        device, size = self.whitener.power.device, self.whitener.size
        nothing = torch.zeros(0, 3, size, size, device=device)
        stacked = [pattern.to(device)[None] for pattern in patterns.values()]
        together = torch.cat([nothing, *stacked])
        filters = described = nothing.flatten(1)
        if stacked:
            filters = templates(self.whitener, together)
            described = self.whitener.descriptions(filters)
        self._filters = (list(patterns), together, filters, described)


def _references(suspect: Suspect, discovery: Discovery) -> Tensor:
    """Images without the pattern: its own with it subtracted, and the latest unsuspected."""
    assert suspect.pattern is not None
    pattern = suspect.pattern
    carriers = suspect.images[-_REFERENCES:].to(pattern.device).float()
    cleaned = (carriers - pattern).clamp(0, 255)
    latest = list(discovery.memory.whole.values())[-_REFERENCES:]
    return torch.cat([cleaned, *(image.to(pattern.device).float()[None] for image in latest)])
