"""What can go wrong before a command has begun, or after it: libraries take their time for both."""

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import NoReturn

# Lightning takes the first of these that is set for a number as soon as it is imported.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@contextmanager
def starting() -> Iterator[None]:
    """Around a command's imports: what ends them early ends in a sentence.

    An exception would not do for Ctrl-C. Libraries swallow it where they import others (torch does
    where it looks for numpy) and go on with half of what they need.
    """
    for name in _RANKS:
        said = os.environ.get(name, "0")
        if not said.lstrip("-").isdecimal():
            sys.exit(f"error: the environment variable {name} is {said!r}: expected a number.")
    before = signal.getsignal(signal.SIGINT)
    # A shell has what it starts in the background ignore Ctrl-C, and a program that calls a
    # command has a handler of its own, or calls it in a thread, which may set none.
    ours = before is signal.default_int_handler and current_thread() is main_thread()
    if ours:
        signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
        # The work is done. An interrupt while libraries clear up would only show where they were.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End this process at once: nothing has begun that would have to be cleared up."""
    try:
        # Not by print, which fails in the middle of another one and where nobody reads any more.
        os.write(2, b"interrupted: nothing was written.\n")
    finally:
        os._exit(130)
