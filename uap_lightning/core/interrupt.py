"""Ctrl-C before a command has begun: imports take seconds, and are no place for a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def told_interrupt() -> Iterator[None]:
    """Around a command's imports and its work: Ctrl-C ends in a sentence and status 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: nothing was written.", file=sys.stderr)
        sys.exit(130)
