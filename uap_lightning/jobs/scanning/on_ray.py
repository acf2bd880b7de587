"""The stages of a scan on Ray Data."""

from collections.abc import Callable, Iterator
from functools import partial

from uap_lightning.core.terminal import progress_bar
from uap_lightning.jobs.classify import Files, decoded
from uap_lightning.jobs.on_ray import answers, connect
from uap_lightning.jobs.scanning.folder import Folder, Local, Seen


class OnRay(Local):
    """Goes through a folder on Ray: an actor for each worker decodes batches and looks at them.

    Batches, their order and what is done to each are those of
    :class:`~uap_lightning.jobs.scanning.folder.Local`. The folder, and the one that is written,
    have to be reachable from every machine under the same name.

    Args:
        folder: whose ``workers`` is the number of actors, each of one processor core.

    Raises:
        UapError: Ray is not installed, or cannot be started.
    """

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder)
        connect(folder.workers)

    def go(
        self,
        task: str,
        look: Callable[[Files], Seen],
        seed: int | None,
        most: int | None = None,
    ) -> Iterator[Seen]:
        """See :meth:`~uap_lightning.jobs.scanning.folder.Local.go`."""
        folder = self.folder
        count = len(folder.listing.order(seed)[:most])
        batches = -(-count // folder.batch_size)
        build = partial(_looking, folder, look, seed, count)
        with progress_bar() as bar:
            shown = bar.add_task(task, total=count)
            for seen, sizes in answers(build, batches, folder.workers):
                folder.read.sizes.update(sizes)
                yield seen
                bar.advance(shown, folder.batch_size)


def _looking(
    folder: Folder, look: Callable[[Files], Seen], seed: int | None, count: int
) -> Callable[[int], tuple[Seen, set[tuple[int, int]]]]:
    """Reads a batch by its number and looks at it; gives the sizes of its images too."""
    numbers = folder.listing.order(seed)[:count]

    def answer(number: int) -> tuple[Seen, set[tuple[int, int]]]:
        first = number * folder.batch_size
        files = folder.listing.paths(numbers[first : first + folder.batch_size])
        [decoded_files] = decoded(files, folder.read, folder.batch_size, 1)
        return look(decoded_files), folder.read.sizes

    return answer
