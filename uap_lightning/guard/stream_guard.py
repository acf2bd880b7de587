"""The guard with memory: what it met in earlier images, it finds and subtracts in later ones."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.guard.guard import Guard, full_precision
from uap_lightning.guard.known import KnownPatterns, Match
from uap_lightning.guard.stream_state import load_state, save_state
from uap_lightning.streams.discovery import Discovery
from uap_lightning.streams.store import PatternStore
from uap_lightning.streams.suspects import Suspect
from uap_lightning.streams.verification import Verdict
from uap_lightning.streams.whitening import Whitener

_BATCH = 32


@dataclass(frozen=True)
class StreamInspection:
    """What the guard with memory saw in a batch of images.

    Attributes:
        logits: of the target network on what it was given, N x K.
        pattern: name of the known pattern that was subtracted from each image, or None.
        score: of the best known pattern's matched filter, N; minus infinity where none is known.
        suspected: the image shares a pattern with others that is not known to be harmless, bool N.
        perturbed: suspected, or found by the single-image detector, bool N.
        detected: score of the single-image detector, N; above 0 means perturbed.
        given: what the network was given, float N x 3 x H x W.
    """

    logits: Tensor
    pattern: list[str | None]
    score: Tensor
    suspected: Tensor
    perturbed: Tensor
    detected: Tensor
    given: Tensor


class StreamGuard:
    """A guard that learns universal perturbations from the images that carry them.

    Each batch is first searched for patterns that are known: those of the store, and those that
    this guard has found and verified. What remains is compared with earlier images
    (:class:`~uap_lightning.streams.discovery.Discovery`). From the fourth image on a shared pattern
    is estimated and, if adding it to clean images changes predictions, subtracted from every image
    that carries it; if it changes none, a watermark for example, it is left alone. Where nothing is
    known, the single-image guard answers; an image that shares an unknown pattern with others is
    rectified, whatever the detector says.

    An image in which no pattern is matched is given to the single-image guard as it came, so that
    its logits are those of that guard to the last bit.

    Calls from several threads are served one after another where they learn, side by side where
    the network works. A store that cannot be written is said once, and the guard goes on.

    Args:
        guard: the single-image guard.
        whitener: fitted on photographs of the guard's size; None takes that of the guard's defence.
        store: where patterns are kept and shared; None keeps them in this process.
        rate: false alarms an image, of each known pattern's filter and of discovery.
        memory: images whose sketches are kept (2 KB each).
        pixels: images that are kept whole (3 x H x W bytes each).

    Raises:
        UapError: there is no whitener, a number is out of its range, or the store is of another
            size.
    """

    def __init__(
        self,
        guard: Guard,
        whitener: Whitener | None = None,
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
        chosen = guard.defense.whitener if whitener is None else whitener
        if chosen is None:
            raise UapError(
                "the defence has no whitener, because its images are smaller than 64 x 64 or its "
                "photographs fewer than 12: give one, as Whitener(size).fit(photographs)."
            )
        chosen = chosen.to(guard.network.mean.device)
        self._set_up(guard, Discovery(chosen, rate, memory, pixels), store)

    def _set_up(self, guard: Guard, discovery: Discovery, store: PatternStore | None) -> None:
        if store is not None and store.size != discovery.whitener.size:
            raise UapError(
                f"the store is for images of side {store.size} and the guard's have "
                f"{discovery.whitener.size}: keep patterns of each size in a folder of their own."
            )
        self.guard = guard
        self.whitener = discovery.whitener
        self.discovery = discovery
        self._known = KnownPatterns(discovery.whitener, store, discovery.rate)
        self._lock = threading.RLock()

    @classmethod
    def load(cls, folder: str | Path, guard: Guard, store: PatternStore | None = None) -> Self:
        """Go on where the guard that saved ``folder`` was.

        Args:
            folder: that :meth:`save` wrote.
            guard: with the same defence.
            store: where patterns are kept and shared from now on.

        Raises:
            UapError: the folder is not whole, was altered, or belongs to another defence.
        """
        device = guard.network.mean.device
        discovery, found = load_state(Path(folder), guard.digest, device)
        made = cls.__new__(cls)
        made._set_up(guard, discovery, store)
        made._known.found = found
        made._known.gather()
        return made

    def save(self, folder: str | Path) -> None:
        """Write all that the guard has learned, so that :meth:`load` gives equal answers.

        The folder holds whole images of the stream: keep it as you would keep them.

        Raises:
            UapError: the folder cannot be written; what was there before stays whole.
        """
        with self._lock:
            save_state(Path(folder), self.guard.digest, self.discovery, self._known.found)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> StreamInspection:
        """Classify images, and learn from them.

        Args:
            images: N x 3 x H x W, RGB, 0-255, uint8 or float, of the whitener's size.

        Raises:
            UapError: they break the pixel contract, or are of another size.
        """
        checked = self.guard.checked(images)
        size = self.whitener.size
        if checked.shape[-2:] != (size, size):
            raise UapError(
                f"images are {checked.shape[-2]} x {checked.shape[-1]} pixels and the stream's are "
                f"{size} x {size}: resize them, or keep a guard for each size."
            )
        with full_precision(checked.device):
            described = self.whitener.describe(checked)
            with self._lock:
                self._known.read()
                known, suspected = self._learn(checked, *described)
        suspected |= known.which >= 0
        return self._answer(checked, suspected.to(checked.device), known)

    @property
    def known(self) -> list[str]:
        """Names of the patterns that are subtracted: those of the store, and own finds."""
        return self._known.names

    def found(self) -> list[tuple[str, Suspect, Verdict | None]]:
        """What this guard has found itself: name, images and estimate, and the verdict."""
        with self._lock:
            return [(found.name, found.suspect, found.verdict) for found in self._known.found]

    def _answer(self, images: Tensor, suspected: Tensor, known: Match) -> StreamInspection:
        """Subtract what is known, rectify what is suspected, and leave the rest to the guard."""
        given, score, rectified = self.guard.gate(images)
        used = torch.where(suspected[:, None, None, None], rectified, given)
        names: list[str | None] = [None] * len(images)
        for place, which in enumerate(known.which.tolist()):
            if which >= 0:
                names[place] = known.names[which]
                used[place] = (images[place] - known.carried[place]).clamp(0, 255)
        logits = self.guard.network(used)
        perturbed = suspected | (score > 0)
        return StreamInspection(logits, names, known.score, suspected, perturbed, score, used)

    def _learn(
        self, images: Tensor, residuals: Tensor, descriptions: Tensor
    ) -> tuple[Match, Tensor]:
        """Show discovery what no finished pattern explains.

        Returns:
            what is known afterwards of each image, and which are suspected, bool N.
        """
        suspected = torch.zeros(len(images), dtype=torch.bool)
        known = self._known.match(images, residuals, descriptions)
        refining = self._known.refining()
        which = known.which.tolist()
        shown = [n for n, w in enumerate(which) if w < 0 or known.names[w] in refining]
        if not shown:
            return known, suspected
        pixels = images[shown].round().to(torch.uint8)
        observed = self.discovery.observe(pixels, residuals[shown], descriptions[shown])
        if self._known.follow(self.discovery, self._predict, self.guard.network.name):
            known = self._known.match(images, residuals, descriptions)
        for place, suspect in zip(shown, observed, strict=True):
            suspected[place] = suspect is not None and suspect.harmful is not False
        return known, suspected

    def _predict(self, images: Tensor) -> Tensor:
        return torch.cat([self.guard.network.predict(b) for b in torch.split(images, _BATCH)])
