"""The images of a folder, gone through once for each stage of a scan."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from uap_lightning.core.terminal import progress_bar
from uap_lightning.jobs.classify import Files, decoded
from uap_lightning.jobs.listing import Listing
from uap_lightning.jobs.scanning.aligned import Aligned

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Folder:
    """A folder of images.

    Attributes:
        root: the folder, or one file.
        listing: its files.
        read: what is compared of each.
        batch_size: images a batch.
        workers: that decode.
    """

    root: Path
    listing: Listing
    read: Aligned
    batch_size: int
    workers: int

    @property
    def parent(self) -> Path:
        """What names of files start from."""
        return self.root if self.root.is_dir() else self.root.parent


class Local:
    """Goes through a folder in this process: threads decode ahead of what looks."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def go(
        self,
        task: str,
        look: Callable[[Files], Seen],
        seed: int | None,
        most: int | None = None,
    ) -> Iterator[Seen]:
        """What ``look`` says of each batch of files, batch after batch.

        Args:
            task: what the progress bar calls it.
            look: called with each batch, in whatever process.
            seed: of a random order; None for that of the folder.
            most: files to stop after; None for all.
        """
        folder = self.folder
        numbers = folder.listing.order(seed)[:most]
        files = folder.listing.paths(numbers)
        with progress_bar() as bar:
            shown = bar.add_task(task, total=len(numbers))
            for batch in decoded(files, folder.read, folder.batch_size, folder.workers):
                yield look(batch)
                bar.advance(shown, len(batch))
