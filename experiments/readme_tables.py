"""The tables of README and docs, from the results that are committed in ``docs/results``.

``--quickstart FILE``, ``--paper FOLDER``, ``--stream FILE``, ``--protocol FILE``,
``--hidden FILE``, ``--remembered FILE``, ``--unseen FILE``, ``--unseen-ablation FILE``,
``--unseen-further FILE``, ``--adaptive FILE``, ``--extension FOLDER``, ``--learning FILE``,
``--place FILE`` and ``--per-image FILE`` put new results there first. A table whose results are
not there has no block in any page.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.ablation_tables import extension_table, learning_table
from experiments.leaderboard_tables import Place, leaderboard_table, provenance_table, summary_table
from experiments.stream_tables import attackers_table, memory_table, stream_table
from experiments.unseen_tables import (
    adaptive_table,
    detector_table,
    per_image_table,
    unseen_matrix,
    unseen_table,
)
from uap_lightning.core.storage import make_folder, read_as, write_atomically, write_json
from uap_lightning.results.escape import for_markdown
from uap_lightning.results.file import FILE, read_results
from uap_lightning.results.paper import read_paper
from uap_lightning.results.row import Row
from uap_lightning.results.rows import Result, gather_rows, norm_label
from uap_lightning.results.tables import LINES, cell, heading, lines_of

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{n}.md" for n in ("streams", "paper", "unseen", "leaderboard")),
]
RESULTS = ROOT / "docs" / "results"
# The network of the README's table, which is the paper's first one.
_FIRST = "googlenet_bvlc"
_SHOWN = (*LINES[:4], ("Undefended (floor)", "undefended_rate"))
# What is left out of the quickstart's table: all of it is in the run's results.json.
_COUNTED = {name for name, _ in LINES[-4:]}


def quickstart_table(file: Path) -> str:
    """The rates of a run, a column for each protocol."""
    rows = read_results(file).rows
    shown = [line for line in lines_of(rows) if line[0] not in _COUNTED]
    lines = [
        f"| {heading(cell for _, cells in shown for cell in cells)} |"
        + "".join(f" {_protocol(row)} |" for row in rows)
    ]
    lines.append("| --- |" + " ---: |" * len(rows))
    for name, cells in shown:
        lines.append(f"| {name} |" + "".join(f" {cell.text()} |" for cell in cells))
    return "\n".join(lines)


def paper_table(folder: Path, network: str | None = None) -> str:
    """A line for each condition of several runs: first those within a network, then across.

    Args:
        folder: of the runs' results.
        network: to be trained and tested on, protocol A and intervals over photographs alone; None
            for all there is.
    """
    files = sorted(folder.glob("*.json"))
    results = [Result(file.stem, file.parent, read_results(file)) for file in files]
    rows = gather_rows(results, read_paper(None), every_cell=True)
    if network is not None:
        rows = [r for r in rows if {r.train_network, r.test_network} == {network}]
        rows = [row for row in rows if row.protocol == "a"]
    names = ["Rectifier", "Trained on", "Tested on", *(["Protocol"] if network is None else [])]
    lines = [f"| {' | '.join([*names, *(name for name, _ in _SHOWN)])} |"]
    lines.append("|" + " --- |" * len(names) + " ---: |" * len(_SHOWN))
    for row in sorted(rows, key=_place):
        trained, tested = norm_label(row.train_norm), norm_label(row.test_norm)
        if network is None:
            trained, tested = f"{row.train_network} {trained}", f"{row.test_network} {tested}"
        condition = [str(row.rectifier), trained, tested, row.protocol.upper()]
        cells = [for_markdown(text) for text in condition[: len(names)]]
        numbers = [cell(row, key) for _, key in _SHOWN]
        if network is not None:  # the README's, which is narrow
            numbers = [replace(number, wider="") for number in numbers]
        cells += [number.text() for number in numbers]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _protocol(row: Row) -> str:
    return f"Protocol {row.protocol.upper()}"


def _place(row: Row) -> tuple[object, ...]:
    trained = (row.train_network, row.train_norm)
    crosses = row.train_network != row.test_network
    crossed = (row.train_norm != row.test_norm, row.test_network, row.protocol)
    return (crosses, row.rectifier, trained, crossed)


def tables() -> dict[str, str]:
    """The tables whose results are committed, by the name of their block."""
    found = {}
    if (RESULTS / "quickstart.json").is_file():
        found["quickstart"] = quickstart_table(RESULTS / "quickstart.json")
    if any((RESULTS / "paper").glob("*.json")):
        found["paper"] = paper_table(RESULTS / "paper", _FIRST)
        found["paper_all"] = paper_table(RESULTS / "paper")
    if any((RESULTS / "stream").glob("*.json")):
        found["stream"] = stream_table(RESULTS / "stream")
    if protocols := sorted((RESULTS / "stream_protocol").glob("*.json")):
        found["attackers"] = attackers_table(protocols)
    if (RESULTS / "stream_hidden.json").is_file():
        hidden = RESULTS / "stream_hidden.json"
        found["hidden"] = memory_table([hidden], "Weight of hiding", "weight-")
    if adaptive := sorted((RESULTS / "stream_adaptive").glob("*.json")):
        found["adaptive_memory"] = memory_table(adaptive, "Crafted against")
    if any((RESULTS / "unseen").glob("*.json")):
        found["unseen"] = unseen_table(RESULTS / "unseen")
        found["detectors"] = detector_table(RESULTS / "unseen")
        found["unseen_all"] = unseen_matrix(RESULTS / "unseen")
    if any((RESULTS / "unseen_ablation").glob("*.json")):
        found["unseen_ablation"] = unseen_table(RESULTS / "unseen_ablation")
    if any((RESULTS / "unseen_further").glob("*.json")):
        found["unseen_further"] = unseen_matrix(RESULTS / "unseen_further")
    if any((RESULTS / "adaptive").glob("*.json")):
        found["adaptive"] = adaptive_table(RESULTS / "adaptive")
    if any((RESULTS / "per_image").glob("*.json")):
        found["per_image"] = per_image_table(RESULTS / "per_image")
    if any((RESULTS / "extension").glob("*.json")):
        found["extension"] = extension_table(RESULTS / "extension")
    if (RESULTS / "learning.json").is_file():
        found["learning"] = learning_table(RESULTS / "learning.json")
    if any((RESULTS / "leaderboard").glob("*.json")):
        found["leaderboard"] = leaderboard_table(RESULTS / "leaderboard")
        found["places"] = summary_table(RESULTS / "leaderboard")
        found["provenance"] = provenance_table(RESULTS / "leaderboard")
    return found


def blocks(text: str) -> dict[str, str]:
    """What stands between the marks ``<!-- table: NAME -->`` and ``<!-- end table -->``."""
    found = re.findall(
        r"<!-- table: (\w+) -->\n((?:(?!<!--).)*)\n<!-- end table -->", text, re.DOTALL
    )
    return dict(found)


def render(pages: Sequence[Path]) -> None:
    """Write the tables between their marks; one without results stays as it is.

    Raises:
        SystemExit: a table has no block.
    """
    missing = tables()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for name, old in blocks(text).items():
            table = missing.pop(name, old)
            text = text.replace(
                f"<!-- table: {name} -->\n{old}", f"<!-- table: {name} -->\n{table}"
            )
        write_atomically(page, text.encode())
    for name in missing:
        raise SystemExit(f"error: the table {name} has no block in any page: add its marks.")


def take(file: Path, target: Path) -> None:
    """Put a finished result where it is committed, without the paths of where it was made."""
    if read_results(file).status != "ok":
        raise SystemExit(f"error: {file} is not ok: expected a finished result.")
    text = file.read_text(encoding="utf-8").replace(f"{ROOT}/", "")
    make_folder(target.parent)
    write_atomically(target, without_folders(text).encode())


def without_folders(text: str) -> str:
    """The text with the last part alone of every path that starts at the root."""
    return re.sub(r"(?<![\w./:-])/(?:[\w.-]+/)+", "", text)


def take_stream(file: Path, target: Path) -> None:
    """Put results of an experiment on streams where they are committed, without paths."""
    content = json.loads(file.read_text(encoding="utf-8"))
    content["command"] = without_folders(content["command"])
    name = target.name.format(**content)
    make_folder(target.parent)
    write_json(target.with_name(name), content)


def main(arguments: list[str] | None = None) -> None:
    """Take new results, and write the tables into the README."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quickstart", type=Path, help="results.json of experiment=quickstart")
    options.add_argument("--paper", type=Path, help="folder of experiments.paper_tables")
    options.add_argument("--stream", type=Path, help="results.json of experiments.stream")
    options.add_argument("--protocol", type=Path, help="results.json of stream_protocol")
    options.add_argument(
        "--hidden", type=Path, help="results.json of experiments.stream on hidden_uap's"
    )
    options.add_argument(
        "--remembered", type=Path, help="results.json of experiments.stream on adaptive's"
    )
    options.add_argument("--unseen", type=Path, help="results.json of experiments.unseen_attacks")
    options.add_argument(
        "--unseen-ablation", type=Path, help="one to compare, as general_ablation's"
    )
    options.add_argument("--unseen-further", type=Path, help="another one, beside the first")
    options.add_argument(
        "--adaptive",
        type=Path,
        help="results.json of evaluate attack=adaptive",
    )
    options.add_argument("--extension", type=Path, help="folder of experiments.extension_ablation")
    options.add_argument("--learning", type=Path, help="learning_ablation.json")
    options.add_argument("--place", type=Path, help="results.json of experiments.leaderboard")
    options.add_argument("--per-image", type=Path, help="results.json of experiments.per_image")
    chosen = options.parse_args(arguments)
    if chosen.quickstart is not None:
        take(chosen.quickstart, RESULTS / "quickstart.json")
    for file in sorted(chosen.paper.glob(f"train-*/{FILE}")) if chosen.paper is not None else ():
        take(file, RESULTS / "paper" / f"{file.parent.name}.json")
    if chosen.stream is not None:
        take_stream(chosen.stream, RESULTS / "stream" / "{network}-{size}.json")
    if chosen.protocol is not None:
        name = f"{{network}}-{chosen.protocol.parent.name}.json"
        take_stream(chosen.protocol, RESULTS / "stream_protocol" / name)
    if chosen.hidden is not None:
        take_stream(chosen.hidden, RESULTS / "stream_hidden.json")
    if chosen.remembered is not None:
        name = f"{{network}}-{{size}}-{chosen.remembered.parent.name}.json"
        take_stream(chosen.remembered, RESULTS / "stream_adaptive" / name)
    if chosen.unseen is not None:
        name = f"{{network}}-{{size}}-{chosen.unseen.parent.name}.json"
        take_stream(chosen.unseen, RESULTS / "unseen" / name)
    if chosen.unseen_ablation is not None:
        name = f"{{network}}-{{size}}-{chosen.unseen_ablation.parent.name}.json"
        take_stream(chosen.unseen_ablation, RESULTS / "unseen_ablation" / name)
    if chosen.unseen_further is not None:
        name = f"{{network}}-{{size}}-{chosen.unseen_further.parent.name}.json"
        take_stream(chosen.unseen_further, RESULTS / "unseen_further" / name)
    if chosen.adaptive is not None:
        take(chosen.adaptive, RESULTS / "adaptive" / f"{chosen.adaptive.parent.name}.json")
    for file in sorted(chosen.extension.glob(f"train-*/{FILE}")) if chosen.extension else ():
        steps = read_results(file).setting("rectifier", "training")["steps"]
        take(file, RESULTS / "extension" / f"{steps}-{file.parent.name}.json")
    if chosen.learning is not None:
        write_atomically(RESULTS / "learning.json", chosen.learning.read_bytes())
    if chosen.place is not None:
        read_as(chosen.place, Place, "a place of leaderboard")
        name = f"{{network}}-{{size}}-{chosen.place.parent.name}.json"
        take_stream(chosen.place, RESULTS / "leaderboard" / name)
    if chosen.per_image is not None:
        take_stream(chosen.per_image, RESULTS / "per_image" / "{network}-{size}.json")
    render(PAGES)


if __name__ == "__main__":
    main()
