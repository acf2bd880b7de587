"""The tables of unseen and adaptive attacks say what is in their files."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from experiments import readme_tables, unseen_tables
from experiments.unseen_attacks import Cell
from tests.results.samples import a_row, result, write
from uap_lightning.core.errors import UapError

NUMBERS = (90.0, 80.0, (88.0, 92.0), 82.0, 98.0, 97.0, 1.5, 0.99, 96.0, 98.0, 9)
ONE = Cell("p, tiny, linf", "a", "inf", 1.0, None, *NUMBERS)
CELLS = [
    ONE,
    replace(ONE, pattern="b", rate=70.0, floor=60.0, ci95=(66.0, 74.0)),
    replace(ONE, pattern="c", norm="2", rate=85.0, floor=84.0),
    replace(ONE, defense="memory, after 4", seen=4, rate=95.0, clean=100.0, false_alarms=None),
]


def write_unseen(folder: Path, cells=CELLS):
    folder.mkdir(parents=True)
    content = {"network": "tiny", "size": 64, "command": "python -m x --patterns /a/b/banks"}
    content |= {"schema": 1, "status": "ok", "seed": 0, "version": "0"}
    content["cells"] = [asdict(cell) for cell in cells]
    content["costs"] = [{"defense": ONE.defense, "digest": None, "gmac": 2.62}]
    (folder / "results.json").write_text(json.dumps(content))
    return folder


def test_mean_lowest_and_floor_of_each_norm_and_strength():
    lines = unseen_tables.unseen_table(write_unseen(Path("u"))).splitlines()
    columns = lines[0].strip("| ").split(" | ")
    assert columns[2:4] == ["ℓ∞, ξ = 10", "ℓ2, ξ = 2,000"]
    floor, defended, memory = (line.strip("|").split("|") for line in lines[2:])
    strip = [[cell.strip() for cell in row] for row in (floor, defended, memory)]
    assert strip[0] == ["tiny, 64 px", "no defence", "70.0 (60.0)", "84.0 (84.0)", "100.0", "", "0"]
    assert strip[1][2:4] == ["80.0 (70.0 [66.0, 74.0])", "85.0 [88.0, 92.0]"]
    assert strip[1][4:] == ["98.0", "1.5 %", "2.6"]
    assert strip[2][1:] == ["memory, after 4", "95.0 [88.0, 92.0]", "", "100.0", "", ""]
    matrix = unseen_tables.unseen_matrix(Path("u"))
    assert "| b | 1 | 60.0 | 70.0 [66.0, 74.0] |  |" in matrix


def test_a_line_for_each_detector_and_kind_and_none_where_there_is_no_detector():
    better = replace(ONE, pattern="b", auroc=0.97, tpr1=46.0, tpr5=78.0, detected=67.0)
    none = replace(ONE, defense="jpeg", auroc=0.5, tpr1=0.0)
    write_unseen(Path("u"), [*CELLS[:1], better, *CELLS[2:], none])
    lines = unseen_tables.detector_table(Path("u")).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[:3] for row in rows] == [
        ["tiny, 64 px", "p, tiny, linf", "ℓ∞, ξ = 10"],
        ["tiny, 64 px", "p, tiny, linf", "ℓ2, ξ = 2,000"],
    ]
    one = dict(zip(lines[0].strip("| ").split(" | "), rows[0], strict=True))
    # Of 0.99 and 0.97; of 96 and 46, 98 and 78, 97 and 67.
    assert one["area under the curve"] == "0.980"
    assert (one["found at 1 %"], one["found at 5 %"]) == ("71.0 %", "88.0 %")
    assert (one["found"], one["false alarms"]) == ("82.0 %", "1.5 %")


def test_the_floor_of_one_network_is_told_once_and_whole():
    """Two files on the same perturbations, of which one has a strength more; a third on another."""
    stronger = [replace(cell, strength=2.5, floor=cell.floor - 20) for cell in CELLS[:2]]
    files = {"a": CELLS, "b": [*CELLS, *stronger], "c": [ONE]}
    for name, cells in files.items():
        write_unseen(Path("made") / name, cells)
        Path("u").mkdir(exist_ok=True)
        (Path("made") / name / "results.json").rename(Path("u") / f"{name}.json")
    lines = unseen_tables.unseen_table(Path("u")).splitlines()
    floors = [line for line in lines if "no defence" in line]
    whole = "| tiny, 64 px | no defence | 70.0 (60.0) | 84.0 (84.0) | 50.0 (40.0) | 100.0 |  | 0 |"
    assert floors == [whole, "| tiny, 64 px | no defence | 80.0 (80.0) |  |  | 100.0 |  | 0 |"]


@pytest.mark.parametrize("key", ["seed", "command", "version", "costs"])
def test_results_without_their_provenance_are_refused(key):
    path = write_unseen(Path("u")) / "results.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(UapError, match=key):
        unseen_tables.unseen_table(Path("u"))


@pytest.mark.parametrize("key", ["floor", "ci95", "n_photographs"])
def test_cells_without_floor_or_interval_are_refused(key):
    path = write_unseen(Path("u")) / "results.json"
    content = json.loads(path.read_text())
    del content["cells"][1][key]
    path.write_text(json.dumps(content))
    with pytest.raises(UapError, match=key):
        unseen_tables.unseen_table(Path("u"))


def test_new_results_are_taken_without_paths(monkeypatch):
    page = Path("page")
    marks = "<!-- table: {} -->\nold\n<!-- end table -->\n"
    page.write_text(
        "".join(
            marks.format(name)
            for name in ("unseen", "unseen_all", "detectors", "adaptive", "adaptive_memory")
        )
    )
    monkeypatch.setattr(readme_tables, "PAGES", [page])
    monkeypatch.setattr(readme_tables, "RESULTS", Path("results"))
    file = write_unseen(Path("u")) / "results.json"
    write("runs/general-linf", result(rows=[a_row(), a_row(protocol="b")]))
    run = Path("runs/general-linf/results.json")
    point = {"pattern": "mine/test-0000", "relative": 91.25, "ci95": [80.0, 99.0]}
    points = [{**point, "seen": seen} for seen in (0, -1, 4)]
    for size in (64, 96):  # a line for each file
        points = [{**found, "pattern": f"mine-{size}/test-0000"} for found in points]
        content = {"command": "python -m y", "points": points, "network": "tiny", "size": size}
        write(f"runs/stream-{size}", content)
    words = ["--unseen", str(file), "--adaptive", str(run)]
    readme_tables.main([*words, "--remembered", "runs/stream-64/results.json"])
    readme_tables.main(["--remembered", "runs/stream-96/results.json"])
    assert "| mine-96 |" in page.read_text()
    assert "| mine-64 | 91.2 [80.0, 99.0] | 91.2 [80.0, 99.0] |" in page.read_text()
    taken = json.loads(Path("results/unseen/tiny-64-u.json").read_text())
    assert taken["command"] == "python -m x --patterns banks"
    assert Path("results/adaptive/general-linf.json").is_file()
    row, text = a_row(), page.read_text()
    low, high = row["ci95"]["defense_rate"]
    assert f"{row['defense_rate']:.1f} % [{low:.1f}, {high:.1f}]" in text
    assert "old" not in text
