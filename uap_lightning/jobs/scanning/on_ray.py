"""The same stages on Ray Data: many processes, of this machine or of a cluster, read and look."""

import logging
import os
import pickle
from collections.abc import Callable, Iterator

import torch

from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import plain, progress_bar
from uap_lightning.jobs.classify import decoded
from uap_lightning.jobs.scanning.folder import Folder, Local, Seen
from uap_lightning.jobs.scanning.looking import Files

# Blocks that Ray plans at most; above, it hands out several batches at a time.
_BLOCKS = 20_000


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
        _connect(folder.workers)

    def go(
        self,
        task: str,
        look: Callable[[Files], Seen],
        seed: int | None,
        most: int | None = None,
    ) -> Iterator[Seen]:
        """See :meth:`~uap_lightning.jobs.scanning.folder.Local.go`."""
        from ray.data import ActorPoolStrategy, from_items
        from ray.exceptions import RayError, RayTaskError

        folder = self.folder
        count = len(folder.listing.order(seed)[:most])
        batches = -(-count // folder.batch_size)
        numbers = from_items([*range(batches)], override_num_blocks=min(batches, _BLOCKS))
        looked = numbers.map_batches(
            _Actor,
            fn_constructor_args=(folder, look, seed, count),
            batch_size=1,
            compute=ActorPoolStrategy(size=min(folder.workers, batches)),
            num_cpus=1,
        )
        try:
            with progress_bar() as bar:
                shown = bar.add_task(task, total=count)
                for row in looked.iter_rows():
                    seen, sizes, error = pickle.loads(row["seen"])
                    if error is not None:
                        raise error
                    folder.read.sizes.update(sizes)
                    yield seen
                    bar.advance(shown, folder.batch_size)
        except RayTaskError:
            raise  # what was raised in a worker, with its traceback
        except RayError as error:
            raise UapError(
                f"Ray stopped ({plain(str(error))}): see its log, or use engine=local."
            ) from error


class _Actor:
    """Reads batches by their number, and looks at them."""

    def __init__(
        self, folder: Folder, look: Callable[[Files], Seen], seed: int | None, count: int
    ) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self.look = look
        self.numbers = folder.listing.order(seed)[:count]

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[bytes]]:
        """The batch of each number, as bytes: what was seen, sizes of images, what went wrong."""
        folder, answers = self.folder, []
        for number in batch["item"]:
            first = int(number) * folder.batch_size
            files = folder.listing.paths(self.numbers[first : first + folder.batch_size])
            seen, failure = None, None
            try:
                [decoded_files] = decoded(files, folder.read, folder.batch_size, 1)
                seen = self.look(decoded_files)
            except (UapError, OSError) as error:
                failure = error
            answers.append(pickle.dumps((seen, folder.read.sizes, failure)))
        return {"seen": answers}


def _connect(workers: int) -> None:
    """Join the cluster at ``RAY_ADDRESS``, or start one on this machine, and make it quiet."""
    # Ray reports every run to its makers unless told otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.data import DataContext
    except ImportError as error:
        raise UapError(
            "engine is ray, which is not installed: pip install 'uap-lightning[ray]', or use "
            "engine=local."
        ) from error
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(
            num_cpus=None if address else workers,
            ignore_reinit_error=True,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError) as error:
        where = f"cannot be reached at RAY_ADDRESS={address}" if address else "does not start"
        raise UapError(
            f"Ray {where} ({plain(str(error))}): mend it, or use engine=local."
        ) from error
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
