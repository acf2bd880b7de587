"""The typed configs of the groups, with the range of every value.

What a config builds (network, attack, ...) is a dictionary with Hydra's ``_target_``.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball, scaled_ball
from uap_lightning.results.protocols import Protocol

Node = dict[str, Any]

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda")
_LARGEST = 2**31 - 1


def whole(key: str, value: int, least: int, most: int = _LARGEST) -> None:
    """Refuse a number outside of ``least`` to ``most``.

    Raises:
        UapError: it is.
    """
    if value < least:
        raise UapError(f"{key} is {value}: expected at least {least}.")
    if value > most:
        raise UapError(f"{key} is {value}: expected at most {most}.")


def share(key: str, value: float) -> None:
    """Refuse what is no share between 0 and 1, both included.

    Raises:
        UapError: it is none.
    """
    if not 0 <= value <= 1:
        raise UapError(f"{key} is {value}: expected a number between 0 and 1.")


def check_accelerator(accelerator: str) -> None:
    """Refuse what is no accelerator of ours.

    Raises:
        UapError: it is none.
    """
    if accelerator not in ACCELERATORS:
        raise UapError(f"accelerator is {accelerator}: expected one of {', '.join(ACCELERATORS)}.")


@dataclass
class NormConfig:
    """The ball that perturbations live in."""

    name: str = MISSING
    p: float = MISSING
    eps: float = MISSING
    reference_size: int | None = None

    def __post_init__(self) -> None:
        Ball(self.p, self.eps)

    def ball(self, size: int) -> Ball:
        """The ball for images of side ``size``."""
        return scaled_ball(self.p, self.eps, self.reference_size, size)


@dataclass
class ProtocolConfig:
    """A test protocol."""

    correct_only: bool = MISSING
    perturbed_share: float = MISSING

    def __post_init__(self) -> None:
        self.protocol()

    def protocol(self) -> Protocol:
        """The protocol as the metrics take it."""
        return Protocol(self.correct_only, self.perturbed_share)


@dataclass
class BankConfig:
    """How many perturbations, and the bounds they keep."""

    train: int = MISSING
    test: int = MISSING
    extended: int = MISSING
    min_fooling_ratio: float = MISSING
    max_cosine: float = MISSING
    attempts: int = MISSING
    path: str | None = None
    further: list[str] = field(default_factory=list)
    procedural: int = 0
    procedural_share: float = 0.3
    rescaled: int = 0
    mirrored: bool = False

    def __post_init__(self) -> None:
        whole("bank.procedural", self.procedural, 0, 100_000)
        whole("bank.rescaled", self.rescaled, 0, 100)
        if not 0 < self.procedural_share < 1:
            raise UapError(
                f"bank.procedural_share is {self.procedural_share}: expected a probability between "
                "0 and 1; for none of them set bank.procedural=0."
            )
        # A test needs none to train with.
        for key, least in (("train", 0), ("test", 1), ("attempts", 1)):
            whole(f"bank.{key}", getattr(self, key), least, 1_000_000)
        whole("bank.extended", self.extended, 1, 1_000_000)
        if self.extended < self.train:
            raise UapError(
                f"bank.extended is {self.extended}: expected at least bank.train ({self.train}), "
                "because the extended set holds the crafted perturbations too."
            )
        share("bank.min_fooling_ratio", self.min_fooling_ratio)
        share("bank.max_cosine", self.max_cosine)


@dataclass
class DetectorConfig:
    """A detector and the sample it is fitted on."""

    name: str = MISSING
    model: Node = MISSING
    max_images: int = MISSING
    perturbed_share: float = MISSING
    false_alarms: float | None = None
    harmless: float = 0.0

    def __post_init__(self) -> None:
        whole("detector.max_images", self.max_images, 2)
        if not 0 <= self.harmless < 1:
            raise UapError(
                f"detector.harmless is {self.harmless}: expected a share of the clean images, from "
                "0 to below 1, because some must be clean indeed."
            )
        if self.false_alarms is not None and not 0 <= self.false_alarms < 1:
            raise UapError(
                f"detector.false_alarms is {self.false_alarms}: expected a share of clean images, "
                "from 0 to below 1, or null for the threshold that fitting finds."
            )
        if not 0 < self.perturbed_share < 1:
            raise UapError(
                f"detector.perturbed_share is {self.perturbed_share}: expected a probability "
                "between 0 and 1, because the detector learns from both kinds of image."
            )


@dataclass
class PathsConfig:
    """Where files go."""

    output_dir: str | None = MISSING  # None while a config is printed
    bank_dir: str = MISSING
    cache_dir: str = MISSING


@dataclass
class CacheConfig:
    """Where converted weights are kept."""

    cache_dir: str = MISSING
