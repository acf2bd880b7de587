"""Tables of committed results: what P* is made of, and what makes the paper's network learn."""

from pathlib import Path
from typing import Any

from experiments.extension_ablation import KINDS
from experiments.learning_ablation import Learning, markdown
from uap_lightning.core.storage import read_as
from uap_lightning.results.file import RunResult, read_results
from uap_lightning.results.row import Row
from uap_lightning.results.rows import norm_label
from uap_lightning.results.tables import LINES, cell

_SHOWN = (*LINES[:4], ("Undefended (floor)", "undefended_rate"))
_CALLED = {
    "none": "the crafted ones alone",
    "algorithm_1": "and synthetic ones (Algorithm 1)",
    "vary": "crafted ones, in random relatives",
    "both": "crafted and synthetic ones, in random relatives",
}


def extension_table(folder: Path) -> str:
    """A line for each training of extension_ablation, protocol A: by norm, steps and kind of P*."""
    names = [name for name, _ in _SHOWN]
    lines = [f"| Norm | Steps | P* | {' | '.join(names)} |"]
    lines.append("| --- | ---: | --- |" + " ---: |" * len(names))
    found: list[tuple[str, int, int, Row]] = []
    for file in sorted(folder.glob("*.json")):
        result = read_results(file)
        [row] = [row for row in result.rows if row.protocol == "a"]
        kind = next(k for k in KINDS if file.stem.endswith(f"-{k}"))
        found.append((row.test_norm, _steps(result), list(KINDS).index(kind), row))
    for norm, steps, number, row in sorted(found, key=lambda one: one[:3]):
        cells = [cell(row, key).text() for _, key in _SHOWN]
        head = [norm_label(norm), f"{steps:,}", _CALLED[list(KINDS)[number]]]
        lines.append(f"| {' | '.join([*head, *cells])} |")
    return "\n".join(lines)


def _steps(result: RunResult) -> int:
    training: Any = result.setting("rectifier", "training")
    return int(training["steps"])


def learning_table(file: Path) -> str:
    """The table of learning_ablation from its JSON."""
    return markdown(read_as(file, Learning, "results of learning_ablation").lines)
