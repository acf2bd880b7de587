"""What a run has written: the content of its results file."""

import json
from pathlib import Path


def results():
    return json.loads(Path("outputs/run/results.json").read_text())
