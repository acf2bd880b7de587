"""Tables of committed results: defences against attacks that are new to them or know them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.defenses import Cost
from experiments.unseen_attacks import Cell, markdown
from uap_lightning.core.storage import read_as
from uap_lightning.results.escape import for_markdown
from uap_lightning.results.file import read_results
from uap_lightning.results.rows import norm_label
from uap_lightning.results.tables import cell

GROUPS = (("inf", 1.0), ("2", 1.0), ("inf", 1.5), ("inf", 2.5))


@dataclass(frozen=True)
class Unseen:
    """A ``results.json`` of experiments.unseen_attacks: nothing of it may be left out.

    Attributes:
        schema: of this file.
        status: how the run ended.
        network: classifier.
        size: side of the images.
        seed: of the order of the photographs.
        command: that made it.
        version: of this package.
        costs: of every defence.
        cells: its numbers, each with its floor and its interval.
    """

    schema: int
    status: Literal["ok"]
    network: str
    size: int
    seed: int
    command: str
    version: str
    costs: list[Cost]
    cells: list[Cell]

    @property
    def measured(self) -> str:
        """What it was measured on."""
        return f"{self.network}, {self.size} px"


@dataclass(frozen=True)
class Line:
    """A defence against an attack on each image; rates in percent of the clean accuracy.

    Attributes:
        defense: its name, or ``no defence``.
        clean: accuracy on clean images.
        attacked: accuracy on attacked ones.
        ci95: of ``attacked``, over photographs.
        detected: share of the attacked images that the detector takes for perturbed.
        eps: largest change of a pixel.
        steps: of the attack.
        n_photographs: attacked.
    """

    defense: str
    clean: float
    attacked: float
    ci95: tuple[float, float]
    detected: float
    eps: float
    steps: int
    n_photographs: int


@dataclass(frozen=True)
class PerImage:
    """A ``results.json`` of experiments.per_image: nothing of it may be left out.

    Attributes:
        schema: of this file.
        status: how the run ended.
        network: classifier.
        size: side of the images.
        seed: of the order of the photographs.
        command: that made it.
        version: of this package.
        lines: one for each defence, ``no defence`` first.
    """

    schema: int
    status: Literal["ok"]
    network: str
    size: int
    seed: int
    command: str
    version: str
    lines: list[Line]


def read_unseen(folder: Path) -> list[Unseen]:
    """The results of a folder.

    Raises:
        UapError: one lacks a floor, an interval, the seed or the command that made it.
    """
    return [read_as(file, Unseen, "results of unseen_attacks") for file in sorted(folder.glob("*"))]


def unseen_table(folder: Path) -> str:
    """A line for each defence: mean and lowest rate over the perturbations of a norm and size."""
    found = read_unseen(folder)
    there = {(c.norm, c.strength) for result in found for c in result.cells}
    groups = [group for group in GROUPS if group in there]
    names = [group_label(*group) for group in groups]
    head = ["Classifier", "Defence", *names, "clean kept", "false alarms", "GMAC"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for result in found:
        # Of all files on the same perturbations: what one of them did not measure another may have.
        same = [r for r in found if (r.measured, _tested(r)) == (result.measured, _tested(result))]
        floors = [c for other in same for c in other.cells if c.seen is None]
        rates = [_floor(floors, *group) for group in groups]
        rows = [[result.measured, "no defence", *rates, "100.0", "", "0"]]
        gmac = {cost.defense: f"{cost.gmac:.1f}" for cost in result.costs}
        for defense in dict.fromkeys(c.defense for c in result.cells):
            own = [c for c in result.cells if c.defense == defense]
            alarms = "" if own[0].false_alarms is None else f"{own[0].false_alarms:.1f} %"
            rates = [
                rates_of([c for c in own if (c.norm, c.strength) == group]) for group in groups
            ]
            kept = [f"{own[0].clean:.1f}", alarms, gmac.get(defense, "")]
            rows.append([result.measured, for_markdown(defense), *rates, *kept])
        made = [f"| {' | '.join(row)} |" for row in rows]
        lines += [line for line in made if line not in lines]  # the same floor is told once
    return "\n".join(lines)


def _tested(result: Unseen) -> set[str]:
    return {c.pattern for c in result.cells}


def rates_of(cells: list[Cell]) -> str:
    """Mean, and the lowest one with its interval; of a single one that alone."""
    if not cells:
        return ""
    worst = min(cells, key=lambda cell: cell.rate)
    low, high = worst.ci95
    lowest = f"{worst.rate:.1f} [{low:.1f}, {high:.1f}]"
    return lowest if len(cells) == 1 else f"{_mean([c.rate for c in cells]):.1f} ({lowest})"


def _floor(cells: list[Cell], norm: str, strength: float) -> str:
    group = [c for c in cells if (c.norm, c.strength) == (norm, strength)]
    floors = list({c.pattern: c.floor for c in group}.values())
    return f"{sum(floors) / len(floors):.1f} ({min(floors):.1f})" if floors else ""


def detector_table(folder: Path) -> str:
    """How well each detector tells perturbed from clean images: means over the perturbations."""
    head = ["Classifier", "Defence", "Perturbations", "area under the curve", "found at 1 %"]
    head += ["found at 5 %", "found", "false alarms"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- | --- |" + " ---: |" * (len(head) - 3)]
    for result in read_unseen(folder):
        judged = [c for c in result.cells if c.seen is None]
        # Where every image scores alike, there is no detector: the area is that of a coin.
        for defense in dict.fromkeys(c.defense for c in judged if c.auroc not in (None, 0.5)):
            for norm, strength in GROUPS:
                group = (defense, norm, strength)
                cells = [c for c in judged if (c.defense, c.norm, c.strength) == group]
                if not cells:
                    continue
                names = [result.measured, for_markdown(defense), group_label(norm, strength)]
                area = _mean([c.auroc for c in cells])
                shares = [[c.tpr1 for c in cells], [c.tpr5 for c in cells]]
                shares += [[c.detected for c in cells], [c.false_alarms for c in cells]]
                told = [f"{area:.3f}", *(f"{_mean(share):.1f} %" for share in shares)]
                lines.append(f"| {' | '.join([*names, *told])} |")
    return "\n".join(lines)


def _mean(numbers: Sequence[float | None]) -> float:
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known)


def group_label(norm: str, strength: float) -> str:
    """What a group of perturbations is called."""
    radius = strength * (2_000 if norm == "2" else 10)
    return f"{norm_label('l' + norm)}, ξ = {radius:,.0f}"


def unseen_matrix(folder: Path) -> str:
    """Every perturbation and every defence, for each file."""
    found = read_unseen(folder)
    return "\n\n".join(f"{r.measured}:\n\n{markdown(r.cells).rstrip()}" for r in found)


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


def per_image_table(folder: Path) -> str:
    """A line for each defence under an attack on each image.

    Raises:
        UapError: a file lacks an interval, the seed or the command that made it.
    """
    head = ["Classifier", "Defence", "clean", "attacked", "detected", "photographs"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    for file in sorted(folder.glob("*.json")):
        result = read_as(file, PerImage, "results of per_image")
        for found in result.lines:
            low, high = found.ci95
            seen = "" if found.defense == "no defence" else f"{found.detected:.1f} %"
            rates = [f"{found.clean:.1f}", f"{found.attacked:.1f} [{low:.1f}, {high:.1f}]", seen]
            names = [f"{result.network}, {result.size} px", for_markdown(found.defense)]
            lines.append(f"| {' | '.join([*names, *rates, str(found.n_photographs)])} |")
    return "\n".join(lines)
