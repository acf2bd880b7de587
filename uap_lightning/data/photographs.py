"""Photographs on the disk, their labels, and the split that keeps test images unseen."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

import torch

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of


@dataclass(frozen=True)
class Photograph:
    """An image file, or an image inside a tar file, and its true class.

    Attributes:
        path: the image file, or the tar file that holds it.
        label: class index in the target network's numbering; None when it is not known.
        member: its name inside the tar file; empty for an image file.
        start: its first byte in the tar file.
        length: its bytes in the tar file.
    """

    path: Path
    label: int | None
    member: str = ""
    start: int = 0
    length: int = 0

    @property
    def name(self) -> str:
        """Where it lies: the image file, or the tar file and the member."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def identity(self) -> str:
        """Digest of its file name and its bytes' number: the same wherever a copy of it lies."""
        name = Path(self.member or self.path).name
        return digest_of([name, self.length if self.member else self.path.stat().st_size])[:16]

    def open(self) -> BinaryIO:
        """The image's bytes, as a file to read from."""
        if not self.member:
            return self.path.open("rb")
        with self.path.open("rb") as archive:
            archive.seek(self.start)
            return io.BytesIO(archive.read(self.length))

    def labelled(self, label: int) -> Self:
        """The same photograph with its true class."""
        return replace(self, label=label)


@dataclass(frozen=True)
class Split:
    """Training and test photographs; no photograph is in both.

    Attributes:
        train: photographs to craft on and to train on.
        test: photographs to test on.
        numbered_classes: how many class folders there are, where a label is a folder's place in
            alphabetical order; None where labels are a network's own or unknown.
    """

    train: tuple[Photograph, ...]
    test: tuple[Photograph, ...]
    numbered_classes: int | None = None


def random_split(photographs: Sequence[Photograph], test_share: float, seed: int) -> Split:
    """Draw the test photographs by seed.

    Where only some photographs are labelled, the test photographs are labelled ones.

    Args:
        photographs: all of them.
        test_share: share of all photographs to test on, between 0 and 1.
        seed: of the draw.

    Raises:
        UapError: the share leaves no photograph on one of the two sides.
    """
    count = round(test_share * len(photographs))
    labelled = [i for i, photograph in enumerate(photographs) if photograph.label is not None]
    candidates = labelled if len(labelled) >= count else list(range(len(photographs)))
    if not 0 < count < len(photographs):
        raise UapError(
            f"data.source.test_share is {test_share}, which puts {count} of {len(photographs)} "
            "photographs on the test side: expected at least one on each side."
        )
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))
    tested = {candidates[i] for i in order[:count].tolist()}
    return Split(
        train=tuple(p for i, p in enumerate(photographs) if i not in tested),
        test=tuple(p for i, p in enumerate(photographs) if i in tested),
    )


def share_of(photographs: Sequence[Photograph], share: float, seed: int) -> list[int]:
    """Indices of a random share of the photographs, in order; at least one.

    Raises:
        UapError: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UapError(f"data.craft_share is {share}: expected a share above 0 and at most 1.")
    order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(seed))
    return sorted(order[: math.ceil(share * len(photographs))].tolist())
