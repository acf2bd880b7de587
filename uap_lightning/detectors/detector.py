"""What a detector is, and how one is fitted in front of a rectifier."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from uap_lightning.core.errors import UapError


class Detector(Protocol):
    """Decides 'perturbed' from I - R(I); a score above 0 means perturbed."""

    def features(self, difference: Tensor) -> Tensor:
        """N x 3 x H x W to N x features."""

    def fit(self, features: Tensor, perturbed: Tensor) -> None:
        """Fit on features and on which of them are of perturbed images."""

    def __call__(self, difference: Tensor) -> Tensor:
        """N x 3 x H x W to scores, N."""


@runtime_checkable
class FittedInParts(Detector, Protocol):
    """A detector that can be fitted on more images than fit into memory."""

    @property
    def at_once(self) -> int:
        """Images that it takes together."""

    def fit_parts(self, parts: Iterable[tuple[Tensor, Tensor]], total: int) -> None:
        """Fit on parts, each as :meth:`fit` takes them, of ``total`` images together."""


@torch.no_grad()
def fit_detector(
    detector: Detector,
    rectifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    total: int,
) -> None:
    """Fit ``detector`` on what ``rectifier`` removes from training images (section 4.3).

    Args:
        detector: fitted in place.
        rectifier: trained.
        batches: images (float N x 3 x H x W, 0-255) and which of them are perturbed (bool, N).
        total: images of all batches.
    """
    rows = (
        (detector.features(images - rectifier(images)).cpu(), coins.cpu())
        for images, coins in batches
    )
    if isinstance(detector, FittedInParts):
        detector.fit_parts(_parts(rows, detector.at_once, total), total)
    else:
        detector.fit(*_joined(list(rows)))


def _parts(
    rows: Iterable[tuple[Tensor, Tensor]], most: int, total: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows in parts of about equal size, none of more than ``most`` images."""
    count = -(-total // most)
    waiting: list[tuple[Tensor, Tensor]] = []
    done, part = 0, 1
    for features, perturbed in rows:
        while done + len(features) >= part * total // count:
            here = part * total // count - done
            waiting.append((features[:here], perturbed[:here]))
            yield _joined(waiting)
            waiting = []
            features, perturbed = features[here:], perturbed[here:]
            done, part = done + here, part + 1
            if part > count:
                return
        waiting.append((features, perturbed))
        done += len(features)


def _joined(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([one for one, _ in rows]), torch.cat([one for _, one in rows])


def check_kinds(features: Tensor, perturbed: Tensor) -> None:
    """Refuse what no detector can be fitted on.

    Args:
        features: N x features.
        perturbed: which rows are of perturbed images (bool, N).

    Raises:
        UapError: all images are of one kind, or a feature is not finite.
    """
    if bool(perturbed.all()) or not bool(perturbed.any()):
        raise UapError(
            f"the detector was given {int(perturbed.sum())} perturbed images of "
            f"{len(perturbed)}: expected both clean and perturbed ones; raise "
            "detector.max_images or change the seed."
        )
    if not bool(features.isfinite().all()):
        raise UapError(
            "the rectifier returns values that are not finite, so its training diverged: lower "
            "rectifier.training.optimizer.lr or set rectifier.training.gradient_clip."
        )


@torch.no_grad()
def calibrate(
    detector: Detector, rectifier: nn.Module, clean: Iterable[Tensor], false_alarms: float
) -> None:
    """Set a fitted detector's threshold so that few clean images count as perturbed.

    Args:
        detector: fitted; its threshold is moved in place.
        rectifier: trained.
        clean: batches of clean images that neither was trained on, float N x 3 x H x W, 0-255.
        false_alarms: share of them that may count as perturbed, at most, from 0 to below 1. With
            fewer than 1 / false_alarms images none may.

    Raises:
        UapError: the detector has no ``raise_threshold(by)``, which subtracts from its scores.
    """
    move = getattr(detector, "raise_threshold", None)
    if move is None:
        raise UapError(
            f"the detector {type(detector).__name__} has no threshold that detector.false_alarms "
            "could set: leave detector.false_alarms=null, or give its class a method "
            "raise_threshold(by)."
        )
    scores = torch.cat([detector(images - rectifier(images)).cpu() for images in clean]).double()
    allowed = int(false_alarms * len(scores))
    ordered = scores.sort(descending=True).values
    # Halfway between the last image that may and the first that may not; above all, where none may.
    least = ordered[allowed]
    most = ordered[allowed - 1] if allowed else least + 0.1 * scores.std(correction=0)
    move(float(least + most) / 2)
