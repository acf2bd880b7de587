"""Pixels in, answers out: what every server of a guard shares."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from typing_extensions import TypedDict

from uap_lightning.data.decoding import Pixels
from uap_lightning.guard.guard import Guard
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.service import counting

# ``class`` is a word of Python's own; pydantic asks for this TypedDict before Python 3.12.
Answer = TypedDict(
    "Answer",
    {
        "label": int,
        "class": str,
        "confidence": float,
        "perturbed": bool,
        "score": float,
        "pattern": str | None,
        "logits": list[float] | None,
    },
)


@dataclass(frozen=True)
class Question:
    """One image and what is asked of it.

    Attributes:
        pixels: uint8, size x size x 3, RGB.
        logits: whether all of them are wanted.
    """

    pixels: Pixels
    logits: bool = False


class Answering:
    """A guard that answers questions, and counts what it saw.

    Args:
        guard: with memory or without.
        names: of the classes.
    """

    def __init__(self, guard: Guard | StreamGuard, names: list[str]) -> None:
        self.guard = guard
        self.names = names
        self._found: set[str] = set()
        self._single = guard if isinstance(guard, Guard) else guard.guard

    def __call__(self, questions: Sequence[Question]) -> list[Answer | None]:
        """Answer a batch; None where what the network or the detector returned is not finite."""
        pixels = torch.from_numpy(np.stack([question.pixels for question in questions]))
        images = pixels.permute(0, 3, 1, 2).to(self._single.network.mean.device)
        patterns: list[str | None] = [None] * len(questions)
        if isinstance(self.guard, StreamGuard):
            remembered = self.guard(images)
            logits, perturbed, score = remembered.logits, remembered.perturbed, remembered.detected
            patterns = remembered.pattern
            counting.PATTERNS.set(len(self.guard.known))
            self._count_found(self.guard)
        else:
            seen = self.guard.inspect(images)
            logits, perturbed, score = seen.logits, seen.perturbed, seen.score
        confidence, label = logits.softmax(1).max(1)
        finite = logits.isfinite().all(1) & score.isfinite()
        columns = [t.tolist() for t in (label, confidence, perturbed, score, logits, finite)]
        counting.IMAGES.inc(len(questions))
        counting.PERTURBED.inc(int(perturbed.sum()))
        counting.SUBTRACTED.inc(sum(name is not None for name in patterns))
        answers: list[Answer | None] = []
        for question, pattern, *row in zip(questions, patterns, *columns, strict=True):
            number, sure, was, scored, every, sound = row
            answer: Answer = {
                "label": number,
                "class": self.names[number],
                "confidence": sure,
                "perturbed": was,
                "score": scored,
                "pattern": pattern,
                "logits": every if question.logits else None,
            }
            answers.append(answer if sound else None)
        return answers

    def _count_found(self, guard: StreamGuard) -> None:
        """Count each pattern once that this guard has found and verified to be harmful."""
        harmful = {name for name, _, verdict in guard.found() if verdict and verdict.harmful}
        counting.FOUND.inc(len(harmful - self._found))
        self._found |= harmful
