"""The files of a folder in any order, without holding their names."""

import os
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning.jobs.classify import files_below


class Listing:
    """Names of files, kept in a file; 16 bytes of memory a name, whatever its length.

    Args:
        root: a folder, or one file.
        place: of the file that holds the names; removed by whoever made its folder.

    A copy of it, in another process too, reads the same file.

    Raises:
        UapError: the folder cannot be read.
        OSError: ``place`` cannot be written.
    """

    def __init__(self, root: Path, place: Path) -> None:
        self.place = place.resolve()
        self._ends = array("q", [0])
        with place.open("wb") as file:
            for path in files_below(root):
                file.write(os.fsencode(path))
                self._ends.append(file.tell())

    def __len__(self) -> int:
        return len(self._ends) - 1

    def order(self, seed: int | None) -> Tensor:
        """Numbers of all files: in an order that the seed decides, or in the folder's."""
        if seed is None:
            return torch.arange(len(self))
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))

    def paths(self, numbers: Tensor) -> Iterator[Path]:
        """The files of these numbers."""
        with self.place.open("rb") as file:
            for number in numbers:
                [(start, end)] = pairwise(self._ends[int(number) : int(number) + 2])
                file.seek(start)
                yield Path(os.fsdecode(file.read(end - start)))
