"""What a person sees in the terminal: progress bars, and errors in one sentence."""

import sys
from collections.abc import Iterable, Iterator
from typing import NoReturn, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from uap_lightning.core.device import is_first

Item = TypeVar("Item")

console = Console(stderr=True)


def progress_bar() -> Progress:
    """A rich progress bar on standard error.

    Nothing is drawn where that is not a terminal, nor by more than the first of the processes
    that train together.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (console.is_terminal and is_first()),
        transient=True,
    )


def track(items: Iterable[Item], description: str) -> Iterator[Item]:
    """Iterate over ``items`` under a progress bar labelled ``description``."""
    with progress_bar() as bar:
        yield from bar.track(items, description=description)


def fail(sentence: str) -> NoReturn:
    """Print ``error: sentence`` in red on standard error and exit with status 1."""
    console.print(f"error: {sentence}", style="red", markup=False, soft_wrap=True)
    sys.exit(1)
