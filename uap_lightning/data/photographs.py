"""Photographs on the disk, their labels, and the split that keeps test images unseen."""

import errno
import math
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch

from uap_lightning.core.errors import UapError


@dataclass(frozen=True, slots=True)
class Photograph:
    """An image file, or an image inside a tar file, and its true class.

    There may be millions: a name takes a fraction of the memory of a ``Path``.

    Attributes:
        file: name of the image file, or of the tar file that holds it.
        label: class index in the target network's numbering; None when it is not known.
        member: its name inside the tar file; empty for an image file.
        start: its first byte in the tar file.
        length: its bytes in the tar file.
    """

    file: str
    label: int | None
    member: str = ""
    start: int = 0
    length: int = 0

    @property
    def path(self) -> Path:
        """The image file, or the tar file."""
        return Path(self.file)

    @property
    def name(self) -> str:
        """Where it lies: the image file, or the tar file and the member."""
        return f"{self.file}:{self.member}" if self.member else self.file

    def size(self) -> int:
        """Its bytes' number.

        Raises:
            OSError: it is not there, or no file: a pipe would be waited for.
        """
        status = self.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a file, or a link to none")
        return self.length if self.member else status.st_size

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            OSError: it cannot be read, or no file.
        """
        size = self.size()
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(size)

    def labelled(self, label: int) -> Self:
        """The same photograph with its true class."""
        return replace(self, label=label)


@dataclass(frozen=True)
class Split:
    """Training and test photographs; no photograph is in both.

    Attributes:
        train: photographs to craft on and to train on.
        test: photographs to test on.
        classes: how many classes the labels are of: 1,000 where they are ImageNet's, else the
            number of class folders; None where there are no labels.
        given: the test photographs were given and not drawn: a training photograph among them is
            refused, where a drawn one would be moved.
    """

    train: tuple[Photograph, ...]
    test: tuple[Photograph, ...]
    classes: int | None = None
    given: bool = False


def divided(
    photographs: Sequence[Photograph], tested: Sequence[Photograph], test_share: float, seed: int
) -> Split:
    """The photographs split by :func:`random_split`, or, where others are given to test on, whole.

    Raises:
        UapError: as :func:`random_split`.
    """
    if not tested:
        return random_split(photographs, test_share, seed)
    return Split(tuple(photographs), tuple(tested), given=True)


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
    count = round(test_share * len(photographs)) if 0 < test_share < 1 else 0
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


def with_copies(
    chosen: Collection[int], photographs: Sequence[Photograph], contents: Sequence[str]
) -> list[int]:
    """The numbers chosen, in order, once every copy of a photograph is where the first is.

    The first is the first by name, which no draw knows of: so the share that was drawn stays, in
    the mean, what it was.

    Args:
        chosen: numbers of photographs.
        photographs: all of them.
        contents: digest of each one's bytes.
    """
    if len(set(contents)) == len(contents):
        return sorted(chosen)
    first: dict[str, int] = {}
    for number in sorted(range(len(photographs)), key=lambda n: photographs[n].name):
        first.setdefault(contents[number], number)
    return [number for number, content in enumerate(contents) if first[content] in chosen]


def check_apart(
    train: Sequence[Photograph], test: Sequence[Photograph], contents: Sequence[str]
) -> None:
    """Refuse test photographs that are trained on.

    Args:
        train: the training photographs.
        test: the test photographs.
        contents: digest of each one's bytes, of the training photographs first.

    Raises:
        UapError: there is one, under whatever name.
    """
    trained = dict(zip(contents[: len(train)], train, strict=True))
    both = [
        (photograph.name, trained[content].name)
        for photograph, content in zip(test, contents[len(train) :], strict=True)
        if content in trained
    ]
    if both:
        raise UapError(
            f"{len(both)} of the {len(test)} photographs of data.test_root are photographs of "
            f"data.root too, byte for byte, such as {both[0][0]}, which is {both[0][1]}: remove "
            "them from one of the two."
        )


def share_of(photographs: Sequence[object], share: float, seed: int) -> list[int]:
    """Indices of a random share of the photographs, in order; at least one of any.

    Raises:
        UapError: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UapError(f"data.craft_share is {share}: expected a share above 0 and at most 1.")
    order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(seed))
    return sorted(order[: math.ceil(share * len(photographs))].tolist())
