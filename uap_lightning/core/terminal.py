"""What a person sees in the terminal: progress bars, and errors in one sentence."""

import re
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

_COMMANDS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """``text`` on one line without what a terminal would obey instead of showing.

    Names of files and of others' records may carry escape codes, control characters or marks
    that turn the direction of writing: they are left out. White space becomes a blank, and what
    is not Unicode (half of a surrogate pair) becomes U+FFFD.
    """
    text = re.sub("[\t\n\v\f\r\x85\u2028\u2029]+", " ", _COMMANDS.sub("", text))
    return re.sub("[\ud800-\udfff]", "\ufffd", _CONTROL.sub("", text))


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
    console.print(f"error: {plain(sentence)}", style="red", markup=False, soft_wrap=True)
    sys.exit(1)
