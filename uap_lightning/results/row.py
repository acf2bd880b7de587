"""One row of a ``results.json``: a test condition and what was measured under it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, FiniteFloat, NonNegativeInt

from uap_lightning.core.terminal import plain

# Text of a file that others may have written: one line, and nothing that steers a terminal.
Line = Annotated[str, AfterValidator(plain)]
# Percent; None for 0 / 0.
Percent = FiniteFloat | None
Interval = tuple[FiniteFloat, FiniteFloat]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What was trained on, and what was tested.

    Attributes:
        train_network, train_norm: that the defence was trained on.
        rectifier, detector: the defence; None where a file does not say.
        test_network: the network under test.
        perturbation_network: that the test perturbations were made on.
        attack: that made them; None where it is not known.
        test_norm: of the test perturbations.
        protocol: ``a`` or ``b``.
        label_source: ``ground_truth``, or ``prediction``: the network's own on the clean image.
    """

    train_network: Line
    train_norm: Line
    rectifier: Line | None = None
    detector: Line | None = None
    test_network: Line
    perturbation_network: Line
    attack: Line | None = None
    test_norm: Line
    protocol: Line
    label_source: Literal["ground_truth", "prediction"]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What was measured: counts, and rates in percent (section 5 of the paper).

    Attributes:
        n_images: test images of the protocol.
        n_photographs: that they are crops of; None where a file does not say.
        n_perturbed: how many of them the mixed set holds perturbed.
        stream_rate: the mixed test images sent through the guard with memory, in random order: as
            ``defense_rate``; None where that was not tested.
        stream_rate_16: of those that came after 16 images with each test perturbation.
        ci95: the 95 % bootstrap interval over photographs of each rate that has one.
        ci95_perturbations: the same over photographs and perturbations; None where a file does not
            say.
    """

    n_images: NonNegativeInt
    n_photographs: NonNegativeInt | None = None
    n_perturbed: NonNegativeInt
    acc_clean: Percent
    acc_perturbed: Percent
    acc_rectified_perturbed: Percent
    acc_rectified_mixed: Percent
    acc_undefended_mixed: Percent
    acc_defended: Percent
    acc_defended_clean: Percent
    fooling_ratio: Percent
    detection_rate: Percent
    prn_gain: Percent
    prn_restoration: Percent
    undefended_rate: Percent
    defense_rate: Percent
    stream_rate: Percent = None
    stream_rate_16: Percent = None
    ci95: dict[Line, Interval | None]
    ci95_perturbations: dict[Line, Interval | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Row(Numbers, Condition):
    """A row: its numbers under its condition."""
