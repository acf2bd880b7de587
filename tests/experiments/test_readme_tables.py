"""The README's tables are those of the committed results."""

import json
from pathlib import Path

import pytest

from experiments import readme_tables
from tests.results.samples import a_row, result, write


def test_the_readme_shows_the_committed_results():
    text = readme_tables.README.read_text()
    known = readme_tables.tables()
    assert "quickstart" in known
    assert {name: readme_tables.blocks(text).get(name) for name in known} == known


def test_every_number_of_the_quickstart_is_in_its_line():
    """Read from the file without our own reader."""
    table = readme_tables.tables()["quickstart"].splitlines()
    rows = json.loads(readme_tables.QUICKSTART.read_text())["rows"]
    assert table[0] == "| Metric [95 % interval] | Protocol A | Protocol B |"
    lines = dict(line.strip("| ").split(" | ", 1) for line in table[2:])
    for name, key in (("Defense rate", "defense_rate"), ("PRN-gain", "prn_gain")):
        wanted = [
            f"{r[key]:.1f} % [{r['ci95'][key][0]:.1f}, {r['ci95'][key][1]:.1f}]" for r in rows
        ]
        assert lines[name] == " | ".join(wanted)
    assert lines["Test photographs"] == "10 | 10"


def test_new_results_are_taken_and_written_between_the_marks(monkeypatch):
    for name in ("README", "QUICKSTART", "SAMPLE", "STREAM"):
        monkeypatch.setattr(readme_tables, name, Path(f"there/{name.lower()}"))
    marks = "<!-- table: {} -->\nold\n<!-- end table -->\n"
    Path("there").mkdir()
    Path("there/readme").write_text("a\n" + marks.format("quickstart") + "b\n")
    write("runs/q", result())
    own = result()
    own["config"]["paths"] = {"output_dir": f"{readme_tables.ROOT}/outputs/q"}
    write("runs/q", own)
    readme_tables.main(["--quickstart", "runs/q/results.json"])
    text = Path("there/readme").read_text()
    assert "old" not in text
    assert f"| Defense rate | {a_row()['defense_rate']:.1f} % [" in text
    assert text.startswith("a\n<!-- table: quickstart -->\n| Metric")
    assert text.endswith("|\n<!-- end table -->\nb\n")
    assert str(readme_tables.ROOT) not in Path("there/quickstart").read_text()
    write("sample/x", result(rows=[a_row("tiny", test="twin"), a_row("tiny", "l2")]))
    with pytest.raises(SystemExit, match="the table sample has no block in the README"):
        readme_tables.main(["--sample", "sample"])
    Path("there/readme").write_text(text + marks.format("sample"))
    readme_tables.main([])
    shown = readme_tables.blocks(Path("there/readme").read_text())["sample"].splitlines()
    assert [line.split(" | ")[:3] for line in shown[2:]] == [
        ["| tiny ℓ2", "tiny ℓ2", "A"],
        ["| tiny ℓ∞", "twin ℓ∞", "A"],
    ]
    write("runs/failed", result("failed"))
    with pytest.raises(SystemExit, match="is not ok"):
        readme_tables.main(["--quickstart", "runs/failed/results.json"])


def test_the_streams_numbers_stand_in_their_columns_and_no_path_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(readme_tables, "STREAM", tmp_path / "stream")
    point = {"norm": "inf", "strength": 1.0, "ci95": [1.0, 2.0]}
    points = [
        {**point, "pattern": name, "seen": seen, "relative": base + seen}
        for name, base in (("a", 60.0), ("b", 50.0))
        for seen in (0, -1, 16, 4)
    ]
    command = "python -m experiments.stream --patterns /a/b/banks data.root=[/c/d,/c/e]"
    content = {"command": command, "network": "tiny", "size": 64, "points": points}
    (tmp_path / "new.json").write_text(json.dumps(content))
    readme_tables.take_stream(tmp_path / "new.json")
    kept = json.loads((tmp_path / "stream" / "tiny-64.json").read_text())
    assert kept["command"] == "python -m experiments.stream --patterns banks data.root=[d,e]"
    head, _, line = readme_tables.stream_table(tmp_path / "stream").splitlines()
    assert head == "| Classifier | Perturbations | no defence | 4 | 16 | known |"
    cells = line.strip("| ").split(" | ")
    assert cells[:2] == ["tiny, 64 px", "2 of ℓ∞, ξ = 10"]
    # The mean of 60 + seen and 50 + seen, and the lower one with its interval.
    assert cells[2] == "55.0 (50.0 [1.0, 2.0])"
    assert [cell.split(" ")[0] for cell in cells[2:]] == ["55.0", "59.0", "71.0", "54.0"]
