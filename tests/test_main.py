"""``python -m uap_lightning``: every command, and nothing that is none."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import uap_lightning
from uap_lightning.__main__ import COMMANDS

PACKAGE = Path(uap_lightning.__file__).parent
RUN = re.compile(r'^if __name__ == "__main__":$', re.MULTILINE)


def test_it_lists_exactly_the_modules_that_can_be_run():
    files = [path for path in PACKAGE.rglob("*.py") if RUN.search(path.read_text())]
    names = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in files]
    runnable = {name.removesuffix(".__main__") for name in names} - {"__main__"}
    assert runnable == set(COMMANDS)
    scripts = entry_points(group="console_scripts")
    ours = {s.value for s in scripts if s.value.startswith("uap_lightning.")}
    assert {value.split(".")[1].split(":")[0] for value in ours} <= runnable


def test_it_prints_them_without_importing_torch():
    code = "import runpy, sys; runpy.run_module('uap_lightning', run_name='__main__'); "
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    printed = re.findall(r"python -m uap_lightning\.(\w+) +\w", done.stdout)
    assert printed == [*COMMANDS, "train"]
