"""How a command ends that is interrupted before it has begun, or while libraries clear up."""

import subprocess
import sys

import pytest

# A library's own handler, registered when it was imported, in the middle of which Ctrl-C comes.
ENDING = """
import atexit, os, signal
def clear_up():
    os.kill(os.getpid(), signal.SIGINT)
    print("cleared up")
atexit.register(clear_up)
from uap_lightning.core.starting import starting
with starting():
    print("worked")
"""


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", **environment},
    )


def test_an_interrupt_after_the_work_shows_nothing():
    done = run(ENDING)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["worked", "cleared", "up"]


# Libraries that import others take what comes meanwhile for a failed import, and go on.
# What starts these tests in the background has them ignore interrupts.
SWALLOWING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from uap_lightning.core.starting import starting
with starting():
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        pass
print("went on")
"""


def test_an_interrupt_before_the_work_ends_in_a_sentence():
    done = run(SWALLOWING)
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing was written.\n")
    assert not done.stdout


def test_an_interrupt_of_the_work_is_the_works_own():
    program = SWALLOWING.replace("with starting():", "with starting(): pass\nif True:")
    done = run(program)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_what_ignores_interrupts_ignores_them_while_it_starts():
    ignoring = SWALLOWING.replace(
        "with starting", "signal.signal(2, signal.SIG_IGN)\nwith starting"
    )
    done = run(ignoring)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_an_interrupt_ends_it_where_nobody_reads_any_more():
    gone = SWALLOWING.replace("import signal", "import os, signal\nos.close(2)")
    done = run(gone)
    assert (done.returncode, done.stdout) == (130, "")


def test_a_thread_may_start_a_command():
    inner = "with starting(): print('imported')"
    program = f"""
import threading
from uap_lightning.core.starting import starting
def work():
    {inner}
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    done = run(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "imported\n", "")


@pytest.mark.parametrize("value", ["abc", "", "1.5"])
def test_a_number_of_a_process_that_is_none_is_told(value):
    program = "from uap_lightning.core.starting import starting\nwith starting(): pass"
    done = run(program, RANK=value)
    assert done.returncode == 1
    assert f"RANK is {value!r}: expected a number" in done.stderr
