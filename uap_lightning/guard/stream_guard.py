"""The guard with memory: what it met in earlier images, it finds and subtracts in later ones."""

import threading
from dataclasses import dataclass, field

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.guard.guard import Guard
from uap_lightning.streams.discovery import Discovery, Suspect
from uap_lightning.streams.matching import scores, templates
from uap_lightning.streams.store import PatternStore, name_for
from uap_lightning.streams.verification import Verdict, verify
from uap_lightning.streams.whitening import Whitener

# Images from which an estimate is good enough to be subtracted.
SUBTRACT_FROM = 4
# Clean images of the stream that a pattern is verified on at most, beside those that carried it.
_REFERENCES = 32


@dataclass(frozen=True)
class StreamInspection:
    """What the guard with memory saw in a batch of images.

    Attributes:
        logits: of the target network on what it was given, N x K.
        pattern: name of the known pattern that was subtracted from each image, or None.
        score: of the best known pattern's matched filter, N; minus infinity where none is known.
        suspected: the image shares a pattern with others, known or not yet, bool N.
        perturbed: suspected, or found by the single-image detector, bool N.
        given: what the network was given, float N x 3 x H x W.
    """

    logits: Tensor
    pattern: list[str | None]
    score: Tensor
    suspected: Tensor
    perturbed: Tensor
    given: Tensor


@dataclass
class _Found:
    """A suspect with its name and what verification said of its latest estimate."""

    suspect: Suspect
    name: str
    verdict: Verdict | None = None
    verified: int = 0


@dataclass
class _Templates:
    """The known patterns of the moment, and what a matched filter looks for."""

    names: list[str] = field(default_factory=list)
    patterns: Tensor | None = None
    filters: Tensor | None = None


class StreamGuard:
    """A guard that learns universal perturbations from the images that carry them.

    Each batch is first searched for patterns that are known: those of the store, and those that
    this guard has found and verified. What remains is compared with earlier images
    (:class:`~uap_lightning.streams.discovery.Discovery`). From the fourth image on a shared pattern
    is estimated and, if adding it to clean images changes predictions, subtracted from every image
    that carries it. Where nothing is known, the single-image guard answers; an image that shares
    an unknown pattern with others is rectified, whatever the detector says.

    An image in which no pattern is matched is given to the single-image guard as it came, so that
    its logits are those of that guard to the last bit.

    Calls from several threads are served one after another where they learn, side by side where
    the network works.

    Args:
        guard: the single-image guard.
        whitener: fitted on photographs of the guard's size.
        store: where patterns are kept and shared; None keeps them in this process.
        rate: false alarms an image, of each known pattern's filter and of discovery.
        memory: images whose sketches are kept (1.5 KB each).
        pixels: images that are kept whole (3 x H x W bytes each).
    """

    def __init__(
        self,
        guard: Guard,
        whitener: Whitener,
        store: PatternStore | None = None,
        *,
        rate: float = 1e-4,
        memory: int = 2_048,
        pixels: int = 256,
    ) -> None:
        if not 0 < rate < 0.1:
            raise UapError(f"rate is {rate}: expected a share of false alarms, such as 0.0001.")
        if not 1 <= pixels <= memory:
            raise UapError(
                f"memory is {memory} and pixels is {pixels}: expected at least 1 image whole, and "
                "no more whole than in memory."
            )
        self.guard = guard
        self.whitener = whitener
        self.store = store
        self.rate = rate
        self.discovery = Discovery(whitener, rate, memory, pixels)
        self._found: list[_Found] = []
        self._templates = _Templates()
        self._lock = threading.RLock()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> StreamInspection:
        """Classify images, and learn from them.

        Args:
            images: N x 3 x H x W, RGB, 0-255, uint8 or float, of the whitener's size.

        Raises:
            UapError: they break the pixel contract, or are of another size.
        """
        checked = self.guard._checked(images)
        size = self.whitener.size
        if checked.shape[-2:] != (size, size):
            raise UapError(
                f"images are {checked.shape[-2]} x {checked.shape[-1]} pixels and the stream's are "
                f"{size} x {size}: resize them, or keep a guard for each size."
            )
        residuals = self.whitener(checked)
        with self._lock:
            self._load_known()
            _, pattern, score = self._match(residuals)
            suspected = torch.zeros(len(images), dtype=torch.bool)
            self._learn(checked, residuals, pattern, suspected)
            known, pattern, score = self._match(residuals)
        suspected |= pattern >= 0
        given, score_single, rectified = self.guard.gate(checked)
        alone = score_single > 0
        used = torch.where(suspected.to(checked.device)[:, None, None, None], rectified, given)
        names: list[str | None] = [None] * len(images)
        for place, which in enumerate(pattern.tolist()):
            if which >= 0 and known.patterns is not None:
                names[place] = known.names[which]
                used[place] = (checked[place] - known.patterns[which]).clamp(0, 255)
        suspected = suspected.to(checked.device)
        logits = self.guard.network(used)
        return StreamInspection(logits, names, score, suspected, suspected | alone, used)

    def found(self) -> list[tuple[str, Suspect, Verdict | None]]:
        """What this guard has found itself: name, images and estimate, and the verdict."""
        with self._lock:
            return [(found.name, found.suspect, found.verdict) for found in self._found]

    def _match(self, residuals: Tensor) -> tuple[_Templates, Tensor, Tensor]:
        """The known patterns, which of them each image carries (-1 for none), and the score."""
        known = self._templates
        if known.filters is None or not known.names:
            nothing = torch.full((len(residuals),), -1)
            return known, nothing, torch.full((len(residuals),), float("-inf"))
        found = scores(residuals, known.filters)
        best = found.max(dim=1)
        threshold = self.whitener.null.threshold(self.rate / len(known.names))
        return known, torch.where(best.values > threshold, best.indices, -1).cpu(), best.values

    def _learn(self, images: Tensor, residuals: Tensor, pattern: Tensor, suspected: Tensor) -> None:
        """Show discovery what no stored pattern explains, and verify what it has estimated."""
        own = {found.name for found in self._found}
        names = self._templates.names
        # Images of patterns that this guard found itself still refine their estimates.
        shown = [n for n, w in enumerate(pattern.tolist()) if w < 0 or names[w] in own]
        if not shown:
            return
        pixels = images[shown].round().to(torch.uint8)
        for place, suspect in zip(
            shown, self.discovery.observe(pixels, residuals[shown]), strict=True
        ):
            suspected[place] = suspect is not None
        self._follow()

    def _follow(self) -> None:
        """Keep the list of finds in step with discovery's suspects, verify and store them."""
        suspects = self.discovery.suspects
        self._found = [found for found in self._found if found.suspect in suspects]
        named = {id(found.suspect) for found in self._found}
        for suspect in suspects:
            if id(suspect) not in named:
                self._found.append(_Found(suspect, name_for(suspect.template)))
        changed = False
        for found in self._found:
            suspect = found.suspect
            if suspect.pattern is None or suspect.estimated in (0, found.verified):
                continue
            if suspect.estimated < SUBTRACT_FROM:
                continue
            found.verdict = verify(self._predict, suspect.pattern, self._references(suspect))
            found.verified = suspect.estimated
            changed = True
            if found.verdict.harmful and self.store is not None:
                provenance = {"images": suspect.estimated, "changed": found.verdict.changed}
                network = self.guard.network.name
                self.store.add(suspect.pattern, found.name, network, provenance)
        if changed:
            self._gather()

    def _references(self, suspect: Suspect) -> Tensor:
        """Images without the pattern: its own with it subtracted, and the latest unsuspected."""
        assert suspect.pattern is not None
        cleaned = (suspect.images.float() - suspect.pattern).clamp(0, 255)
        latest = list(self.discovery.memory.whole.values())[-_REFERENCES:]
        return torch.cat([cleaned, torch.stack(latest).float()]) if latest else cleaned

    def _predict(self, images: Tensor) -> Tensor:
        return torch.cat([self.guard.network(batch).argmax(1) for batch in torch.split(images, 32)])

    def _load_known(self) -> None:
        """Take in what has changed in the store."""
        if self.store is not None:
            before = [(known.name, known.record) for known in getattr(self, "_stored", [])]
            self._stored = self.store.known()
            if [(known.name, known.record) for known in self._stored] != before:
                self._gather()

    def _gather(self) -> None:
        """The filters of everything that is known."""
        patterns = {known.name: known.pattern for known in getattr(self, "_stored", [])}
        for found in self._found:
            harmful = found.verdict is not None and found.verdict.harmful
            if harmful and found.suspect.pattern is not None:
                patterns[found.name] = found.suspect.pattern
        if not patterns:
            self._templates = _Templates()
            return
        device = self.whitener.power.device
        stacked = torch.stack([pattern.to(device) for pattern in patterns.values()])
        filters = templates(self.whitener, stacked)
        self._templates = _Templates(list(patterns), stacked, filters)
