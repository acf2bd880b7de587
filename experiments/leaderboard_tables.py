"""The leaderboard's page from its committed places."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from experiments.defenses import Cost
from experiments.unseen_attacks import Cell
from experiments.unseen_tables import GROUPS, group_label, rates_of
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_as
from uap_lightning.results.escape import for_markdown
from uap_lightning.results.rows import norm_label

# What a place says of a filter, in ``trained_on``.
UNTRAINED = "not trained"


@dataclass(frozen=True)
class Attack:
    """How the attacker who knows the whole defence went about it.

    Attributes:
        way, loss: of the attack that was the worst on the attacker's own photographs.
        restarts: attacks that it was chosen from.
        steps: gradient steps of each.
        photographs: that it was crafted on.
    """

    way: str
    loss: str
    restarts: int
    steps: int
    photographs: int


@dataclass(frozen=True)
class Place:
    """A file of the leaderboard: nothing of it may be left out.

    Attributes:
        schema: of this file.
        status: how the run ended.
        name: of the defence.
        trained_on: what it was trained on, in words.
        network: classifier.
        size: side of the images.
        norm: of the attacker who knows.
        seed: of the order of the photographs and of the attack.
        command: that made it.
        version: of this package.
        cost: what it computes.
        times: seconds of classifier and defence / seconds of the classifier, on one machine.
        tested_on: digest of the test photographs, of the perturbations and of their strengths.
        unseen: cells of perturbations that it has not seen.
        own: of its own kind; empty where it has none.
        adaptive: of the attacker who knows; None where no gradient reaches the perturbation.
        attack: how that was made; None likewise.
    """

    schema: int
    status: Literal["ok"]
    name: str
    trained_on: str
    network: str
    size: int
    norm: str
    seed: int
    command: str
    version: str
    cost: Cost
    times: float
    tested_on: str
    unseen: list[Cell]
    own: list[Cell]
    adaptive: Cell | None
    attack: Attack | None


def read_places(folder: Path) -> list[Place]:
    """The places of a folder.

    Raises:
        UapError: one lacks a floor, an interval, the seed, the command or what it was trained on;
            or two of one classifier and size were not tested on the same.
    """
    files = sorted(folder.glob("*"))
    places = [read_as(file, Place, "a place of leaderboard") for file in files]
    first: dict[tuple[str, int], Place] = {}
    for file, place in zip(files, places, strict=True):
        other = first.setdefault((place.network, place.size), place)
        if other.tested_on != place.tested_on:
            raise UapError(
                f"{file} was tested on other photographs, perturbations or strengths than "
                f"{other.name}: expected the same for {place.network} at {place.size} pixels; "
                "measure it as the others were."
            )
    places.sort(key=lambda p: (p.network, p.size, -_mean(_group(p.unseen, "inf", 1.0))))
    return places


def leaderboard_table(folder: Path) -> str:
    """The places by classifier, the best mean over unseen ℓ∞ perturbations first."""
    head = ["Classifier", "Defence", "clean kept", "own kind"]
    names = [group_label(norm, strength) for norm, strength in GROUPS]
    head += [*(f"unseen {name}" for name in names), "crafted against it", "false alarms"]
    head += ["time", "GMAC"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for place in read_places(folder):
        alarms = place.unseen[0].false_alarms
        cells = [f"{place.network}, {place.size} px", for_markdown(place.name)]
        cells += [f"{place.unseen[0].clean:.1f}", _cell(place.own)]
        cells += [_cell(_group(place.unseen, *group)) for group in GROUPS]
        knows = _cell([place.adaptive]) if place.adaptive else "no gradient"
        cells += [f"{norm_label(place.norm)}: {knows}"]
        cells += ["" if alarms is None else f"{alarms:.1f} %"]
        cells += [f"{place.times:.2f}", f"{place.cost.gmac:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def summary_table(folder: Path) -> str:
    """The places without their cost in time; first what is left with no defence.

    Of those that nobody trained (filters), the best of each classifier and size is shown.
    """
    head = ["Classifier", "Defence", *(group_label(*group) for group in GROUPS)]
    head += ["own kind", "crafted against it", "clean kept", "false alarms", "GMAC"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    measured = ""
    filtered: set[str] = set()
    for place in read_places(folder):
        groups = [_group(place.unseen, *group) for group in GROUPS]
        here = f"{place.network}, {place.size} px"
        if here != measured:
            measured = here
            # All places of a classifier and size are tested on the same.
            floors = [[replace(cell, rate=cell.floor) for cell in group] for group in groups]
            rates = [f"{_mean(g):.1f} ({min(c.rate for c in g):.1f})" if g else "" for g in floors]
            cells = [measured, "no defence", *rates, "", "", "100.0", "", "0"]
            lines.append(f"| {' | '.join(cells)} |")
        if place.trained_on == UNTRAINED:
            if measured in filtered:
                continue
            filtered.add(measured)
        alarms = place.unseen[0].false_alarms
        cells = [measured, for_markdown(place.name), *(rates_of(group) for group in groups)]
        cells += [_cell(place.own), _cell([place.adaptive]) if place.adaptive else "no gradient"]
        cells += [f"{place.unseen[0].clean:.1f}", "" if alarms is None else f"{alarms:.1f} %"]
        cells += [f"{place.cost.gmac:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def provenance_table(folder: Path) -> str:
    """What stands behind each place."""
    head = ["Classifier", "Defence", "trained on, as its makers say", "photographs"]
    head += ["perturbations", "attack that was the worst"]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " --- |" * (len(head) - 1)]
    for place in read_places(folder):
        how = place.attack
        worst = f"{how.way}, {how.loss}, of {how.restarts} with {how.steps} steps" if how else ""
        cells = [f"{place.network}, {place.size} px", for_markdown(place.name)]
        cells += [for_markdown(place.trained_on), str(place.unseen[0].n_photographs)]
        cells += [str(len({cell.pattern for cell in place.unseen})), worst]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _group(cells: list[Cell], norm: str, strength: float) -> list[Cell]:
    return [cell for cell in cells if (cell.norm, cell.strength) == (norm, strength)]


def _mean(cells: list[Cell]) -> float:
    return sum(cell.rate for cell in cells) / len(cells) if cells else 0.0


def _cell(cells: list[Cell]) -> str:
    """The same with the mean floor."""
    floor = sum(cell.floor for cell in cells) / max(len(cells), 1)
    return f"{rates_of(cells)}; floor {floor:.1f}" if cells else ""
