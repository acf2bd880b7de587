"""The fork server judges as a shell would: commands that are started anew end the same."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.harness import Started, judge, stamps
from tests.hostile.keys import words

TRIED = {
    "ok": ("predict", []),
    "refused": ("train", ["seed=-1"]),
    "unknown": ("report", ["nokey=1"]),
    "help": ("craft", ["--help"]),
}


@pytest.mark.always
@pytest.mark.parametrize("case", TRIED)
def test_a_process_of_its_own_ends_as_a_forked_one(case, server, hostile, material, tmp_path):
    command, more = TRIED[case]
    given = [*words(command, material), *more]
    ends = {}
    for way in ("forked", "own"):
        folder = tmp_path / way
        folder.mkdir()
        if way == "forked":
            outcome = server.wait(server.start(command, *given, cwd=folder))
        else:
            done = subprocess.run(
                [sys.executable, "-m", f"uap_lightning.{command}", *given],
                cwd=folder,
                env=server.env,
                capture_output=True,
                text=True,
                check=False,
            )
            started = Started(0, command, given, Path(), Path(), folder)
            outcome = judge(started, done.returncode, False, done.stdout, done.stderr)
        hostile.judged(outcome, "ok" if case in ("ok", "help") else "sentence")
        files = sorted(path.relative_to(folder) for path in stamps(folder))
        ends[way] = (outcome.verdict, outcome.code, outcome.said, files)
    assert ends["own"] == ends["forked"]
