"""Ray Data: many processes, of this machine or of a cluster, take the batches of a folder."""

import logging
import os
import pickle
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import plain

Answer = TypeVar("Answer")

# Blocks that Ray plans at most; above, it hands out several batches at a time.
_BLOCKS = 20_000


def connect(workers: int) -> None:
    """Join the cluster at ``RAY_ADDRESS``, or start one on this machine, and make it quiet.

    Raises:
        UapError: Ray is not installed, or cannot be started.
    """
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


def answers(
    build: Callable[[], Callable[[int], Answer]], batches: int, workers: int
) -> Iterator[Answer]:
    """What the workers say of each batch, in the order of the batches.

    Args:
        build: called once in each worker; what it makes is called with the number of a batch.
        batches: how many there are.
        workers: actors, of one processor core each.

    Raises:
        UapError: Ray stops, or what is called raises it.
        OSError: what is called raises it.
    """
    from ray.data import ActorPoolStrategy, from_items
    from ray.exceptions import RayError, RayTaskError

    if not batches:
        return
    numbers = from_items([*range(batches)], override_num_blocks=min(batches, _BLOCKS))
    looked = numbers.map_batches(
        _Actor,
        fn_constructor_args=(build,),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(workers, batches)),
        num_cpus=1,
    )
    try:
        for row in looked.iter_rows():
            answer, error = pickle.loads(row["answer"])
            if error is not None:
                raise error
            yield answer
    except RayTaskError:
        raise  # what was raised in a worker, with its traceback
    except RayError as error:
        raise UapError(
            f"Ray stopped ({plain(str(error))}): see its log, or use engine=local."
        ) from error


class _Actor:
    """Answers for batches by their number."""

    def __init__(self, build: Callable[[], Callable[[int], object]]) -> None:
        torch.set_num_threads(1)
        # What is raised here would be Ray's, told with a traceback; a batch tells it better.
        self.failure: Exception | None = None
        try:
            self.answer = build()
        except (UapError, OSError) as error:
            self.failure = error

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[bytes]]:
        """The answer to each number, or what went wrong, as bytes."""
        found = []
        for number in batch["item"]:
            answer, failure = None, self.failure
            try:
                answer = None if failure else self.answer(int(number))
            except (UapError, OSError) as error:
                failure = error
            found.append(pickle.dumps((answer, failure)))
        return {"answer": found}
