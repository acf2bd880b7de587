"""Tables of committed results: defences against attacks that are new to them or know them."""

import json
from pathlib import Path

from experiments.unseen_attacks import Cell, markdown
from uap_lightning.results.escape import for_markdown
from uap_lightning.results.file import read_results
from uap_lightning.results.rows import norm_label
from uap_lightning.results.tables import cell

_GROUPS = (("inf", 1.0), ("2", 1.0), ("inf", 1.5), ("inf", 2.5))


def cells_of(file: Path) -> tuple[str, list[Cell]]:
    """What was measured on, and the cells of a ``results.json`` of experiments.unseen_attacks."""
    content = json.loads(file.read_text(encoding="utf-8"))
    cells = [Cell(**{**cell, "ci95": tuple(cell["ci95"])}) for cell in content["cells"]]
    return f"{content['network']}, {content['size']} px", cells


def unseen_table(folder: Path) -> str:
    """A line for each defence: mean and lowest rate over the perturbations of a norm and size."""
    found = [cells_of(file) for file in sorted(folder.glob("*.json"))]
    there = {(c.norm, c.strength) for _, cells in found for c in cells}
    groups = [group for group in _GROUPS if group in there]
    names = [
        f"{norm_label('l' + norm)}, ξ = {strength * (2_000 if norm == '2' else 10):,.0f}"
        for norm, strength in groups
    ]
    head = ["Classifier", "Defence", *names, "clean kept", "false alarms"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for measured, cells in found:
        floors = [c for c in cells if c.seen is None]
        lines.append(
            _line(measured, "no defence", [_floor(floors, *g) for g in groups], "100.0", "")
        )
        for defense in dict.fromkeys(c.defense for c in cells):
            own = [c for c in cells if c.defense == defense]
            alarms = "" if own[0].false_alarms is None else f"{own[0].false_alarms:.1f} %"
            rates = [_rates(own, *group) for group in groups]
            lines.append(_line(measured, defense, rates, f"{own[0].clean:.1f}", alarms))
    return "\n".join(lines)


def _line(measured: str, defense: str, rates: list[str], clean: str, alarms: str) -> str:
    return f"| {' | '.join([measured, for_markdown(defense), *rates, clean, alarms])} |"


def _rates(cells: list[Cell], norm: str, strength: float) -> str:
    group = [c for c in cells if (c.norm, c.strength) == (norm, strength)]
    if not group:
        return ""
    worst = min(group, key=lambda c: c.rate)
    low, high = worst.ci95
    mean = sum(c.rate for c in group) / len(group)
    return f"{mean:.1f} ({worst.rate:.1f} [{low:.1f}, {high:.1f}])"


def _floor(cells: list[Cell], norm: str, strength: float) -> str:
    group = [c for c in cells if (c.norm, c.strength) == (norm, strength)]
    floors = list({c.pattern: c.floor for c in group}.values())
    return f"{sum(floors) / len(floors):.1f} ({min(floors):.1f})" if floors else ""


def unseen_matrix(folder: Path) -> str:
    """Every perturbation and every defence, for each file."""
    found = [cells_of(file) for file in sorted(folder.glob("*.json"))]
    return "\n\n".join(f"{measured}:\n\n{markdown(cells).rstrip()}" for measured, cells in found)


def adaptive_table(folder: Path) -> str:
    """A line for each run of ``evaluate attack=adaptive``: protocol A."""
    shown = ("defense_rate", "undefended_rate", "detection_rate")
    head = ["Rectifier", "Detector", "Norm", "Defense rate", "Undefended (floor)", "Detection rate"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- | --- |" + " ---: |" * len(shown)]
    for file in sorted(folder.glob("*.json")):
        [row] = [row for row in read_results(file).rows if row.protocol == "a"]
        names = [str(row.rectifier), str(row.detector), norm_label(row.test_norm)]
        cells = [*map(for_markdown, names), *(cell(row, key).text() for key in shown)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
