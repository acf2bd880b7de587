"""The README's tables, from the results that are committed in ``docs/results``.

``--quickstart FILE``, ``--sample FOLDER`` and ``--stream FILE`` put new results there first. A
table whose results are not there has no block in the README.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from uap_lightning.core.storage import make_folder, write_atomically, write_json
from uap_lightning.results.escape import for_markdown
from uap_lightning.results.file import FILE, read_results
from uap_lightning.results.row import Row
from uap_lightning.results.rows import norm_label
from uap_lightning.results.tables import LINES, cell, heading, lines_of

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
QUICKSTART = ROOT / "docs" / "results" / "quickstart.json"
SAMPLE = ROOT / "docs" / "results" / "sample"
STREAM = ROOT / "docs" / "results" / "stream"
_SHOWN = (*LINES[:4], ("Floor", "undefended_rate"))


def quickstart_table(file: Path) -> str:
    """Every number of a run, a column for each protocol."""
    rows = read_results(file).rows
    shown = lines_of(rows)
    lines = [
        f"| {heading(cell for _, cells in shown for cell in cells)} |"
        + "".join(f" {_protocol(row)} |" for row in rows)
    ]
    lines.append("| --- |" + " ---: |" * len(rows))
    for name, cells in shown:
        lines.append(f"| {name} |" + "".join(f" {cell.text()} |" for cell in cells))
    return "\n".join(lines)


def sample_table(folder: Path) -> str:
    """A line for each condition of several runs: first those within a network, then across."""
    rows = [row for file in sorted(folder.glob("*.json")) for row in read_results(file).rows]
    names = ["Trained on", "Tested on", "Protocol", *(name for name, _ in _SHOWN)]
    lines = [f"| {' | '.join(names)} |", "| --- | --- | --- |" + " ---: |" * len(_SHOWN)]
    for row in sorted(rows, key=_place):
        condition = (
            for_markdown(f"{row.train_network} {norm_label(row.train_norm)}"),
            for_markdown(f"{row.test_network} {norm_label(row.test_norm)}"),
            row.protocol.upper(),
        )
        numbers = (cell(row, key).text() for _, key in _SHOWN)
        lines.append(f"| {' | '.join((*condition, *numbers))} |")
    return "\n".join(lines)


def stream_table(folder: Path) -> str:
    """A line for each network, norm and strength: the mean over perturbations, and the lowest."""
    results = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*"))]
    seen = dict.fromkeys(p["seen"] for result in results for p in result["points"])
    counts = sorted(count for count in seen if count > 0)
    columns = {0: "no defence", **{count: str(count) for count in counts}, -1: "known"}
    lines = [f"| Classifier | Perturbations | {' | '.join(columns.values())} |"]
    lines.append("| --- | --- |" + " ---: |" * len(columns))
    for result in results:
        points, network = result["points"], f"{result['network']}, {result['size']} px"
        for norm, strength in sorted({(point["norm"], point["strength"]) for point in points}):
            group = [p for p in points if (p["norm"], p["strength"]) == (norm, strength)]
            names = {point["pattern"] for point in group}
            radius = strength * (2_000 if norm == "2" else 10)
            cells = [network, f"{len(names)} of {norm_label('l' + norm)}, ξ = {radius:,.0f}"]
            by_seen = [[p for p in group if p["seen"] == count] for count in columns]
            cells += [_mean_and_lowest(found) for found in by_seen]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean_and_lowest(points: list[dict[str, Any]]) -> str:
    if not points:
        return ""
    worst = min(points, key=lambda point: float(point["relative"]))
    mean = sum(point["relative"] for point in points) / len(points)
    low, high = worst["ci95"]
    return f"{mean:.1f} ({worst['relative']:.1f} [{low:.1f}, {high:.1f}])"


def _protocol(row: Row) -> str:
    return f"Protocol {row.protocol.upper()}"


def _place(row: Row) -> tuple[object, ...]:
    trained = (row.train_network, row.train_norm)
    crosses = row.train_network != row.test_network
    return (crosses, trained, row.train_norm != row.test_norm, row.test_network, row.protocol)


def tables() -> dict[str, str]:
    """The tables whose results are committed, by the name of their block."""
    found = {}
    if QUICKSTART.is_file():
        found["quickstart"] = quickstart_table(QUICKSTART)
    if any(SAMPLE.glob("*.json")):
        found["sample"] = sample_table(SAMPLE)
    if any(STREAM.glob("*.json")):
        found["stream"] = stream_table(STREAM)
    return found


def blocks(text: str) -> dict[str, str]:
    """What stands between the marks ``<!-- table: NAME -->`` and ``<!-- end table -->``."""
    found = re.findall(r"<!-- table: (\w+) -->\n(.*?)\n<!-- end table -->", text, re.DOTALL)
    return dict(found)


def rendered(text: str) -> str:
    """The text with the blocks as :func:`tables` has them; one without results stays as it is.

    Raises:
        SystemExit: a table has no block.
    """
    known, there = tables(), blocks(text)
    for name in known.keys() - there.keys():
        raise SystemExit(f"error: the table {name} has no block in the README: add its marks.")
    for name, table in known.items():
        text = text.replace(
            f"<!-- table: {name} -->\n{there[name]}", f"<!-- table: {name} -->\n{table}"
        )
    return text


def take(file: Path, target: Path) -> None:
    """Put a finished result where it is committed, without the path of this checkout."""
    if read_results(file).status != "ok":
        raise SystemExit(f"error: {file} is not ok: expected a finished result.")
    text = file.read_text(encoding="utf-8").replace(f"{ROOT}/", "")
    write_atomically(target, text.encode())


def take_stream(file: Path) -> None:
    """Put the results of :mod:`experiments.stream` where they are committed, without paths."""
    content = json.loads(file.read_text(encoding="utf-8"))
    content["command"] = re.sub(r"/(?:[\w.-]+/)*", "", content["command"])
    make_folder(STREAM)
    write_json(STREAM / f"{content['network']}-{content['size']}.json", content)


def main(arguments: list[str] | None = None) -> None:
    """Take new results, and write the tables into the README."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quickstart", type=Path, help="results.json of experiment=quickstart")
    options.add_argument("--sample", type=Path, help="folder of the runs of experiment=sample")
    options.add_argument("--stream", type=Path, help="results.json of experiments.stream")
    chosen = options.parse_args(arguments)
    if chosen.quickstart is not None:
        take(chosen.quickstart, QUICKSTART)
    for file in sorted(chosen.sample.glob(f"*/{FILE}")) if chosen.sample is not None else ():
        take(file, SAMPLE / f"{file.parent.name}.json")
    if chosen.stream is not None:
        take_stream(chosen.stream)
    write_atomically(README, rendered(README.read_text(encoding="utf-8")).encode())


if __name__ == "__main__":
    main()
