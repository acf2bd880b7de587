"""What can go wrong before a command has begun, or after it: libraries take their time for both."""

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Lightning takes the first of these that is set for a number as soon as it is imported.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@contextmanager
def starting() -> Iterator[None]:
    """Around a command's imports and its work: what ends them early ends in a sentence."""
    for name in _RANKS:
        said = os.environ.get(name, "0")
        if not said.lstrip("-").isdecimal():
            sys.exit(f"error: the environment variable {name} is {said!r}: expected a number.")
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: nothing was written.", file=sys.stderr)
        sys.exit(130)
    finally:
        # The work is done. An interrupt while libraries clear up would only show where they were.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
