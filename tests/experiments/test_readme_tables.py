"""The README's tables are those of the committed results."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from experiments import ablation_tables, readme_tables, stream_tables
from experiments.learning_ablation import Learning, Line, markdown
from tests.results.samples import a_row, result, write
from uap_lightning.core.errors import UapError


def test_readme_and_docs_show_the_committed_results():
    known = readme_tables.tables()
    assert "quickstart" in known
    there = {}
    for page in readme_tables.PAGES:
        there |= readme_tables.blocks(page.read_text())
    assert there == known


def test_every_number_of_the_quickstart_is_in_its_line():
    """Read from the file without our own reader."""
    table = readme_tables.tables()["quickstart"].splitlines()
    rows = json.loads((readme_tables.RESULTS / "quickstart.json").read_text())["rows"]
    assert table[0] == "| Metric [95 % interval] | Protocol A | Protocol B |"
    lines = dict(line.strip("| ").split(" | ", 1) for line in table[2:])
    for name, key in (("Defense rate", "defense_rate"), ("PRN-gain", "prn_gain")):
        wanted = [
            f"{r[key]:.1f} % [{r['ci95'][key][0]:.1f}, {r['ci95'][key][1]:.1f}]" for r in rows
        ]
        assert lines[name] == " | ".join(wanted)
    assert [*lines][-1] == "Accuracy, clean, through the defence"


def test_new_results_are_taken_and_written_between_the_marks(monkeypatch):
    page, more = Path("there/readme"), Path("there/more")
    monkeypatch.setattr(readme_tables, "PAGES", [page, more])
    monkeypatch.setattr(readme_tables, "RESULTS", Path("there/results"))
    marks = "<!-- table: {} -->\nold\n<!-- end table -->\n"
    Path("there").mkdir()
    page.write_text("a\n" + marks.format("quickstart") + "b\n")
    more.write_text("more\n")
    write("runs/q", result())
    own = result()
    own["config"]["paths"] = {
        "output_dir": f"{readme_tables.ROOT}/outputs/q",
        "root": "[/data/own photos/a,/data/b]",
    }
    write("runs/q", own)
    readme_tables.main(["--quickstart", "runs/q/results.json"])
    text = page.read_text()
    assert "old" not in text
    assert f"| Defense rate | {a_row()['defense_rate']:.1f} % [" in text
    assert text.startswith("a\n<!-- table: quickstart -->\n| Metric")
    assert text.endswith("|\n<!-- end table -->\nb\n")
    kept = json.loads(Path("there/results/quickstart.json").read_text())["config"]["paths"]
    assert kept == {"output_dir": "outputs/q", "root": "[own photos/a,b]"}
    rows = [a_row("tiny", test="twin"), a_row("tiny", "l2"), a_row("tiny", "l2", protocol="b")]
    write("paper/train-x", result(rows=rows))
    write("paper/craft-x", result())
    monkeypatch.setattr(readme_tables, "_FIRST", "tiny")
    page.write_text(text + marks.format("paper"))
    with pytest.raises(SystemExit, match="the table paper_all has no block in any page"):
        readme_tables.main(["--paper", "paper"])
    more.write_text(marks.format("paper_all"))
    readme_tables.main([])
    shown = readme_tables.blocks(more.read_text())["paper_all"].splitlines()
    assert [line.split(" | ")[1:4] for line in shown[2:]] == [
        ["tiny ℓ2", "tiny ℓ2", "A"],
        ["tiny ℓ2", "tiny ℓ2", "B"],
        ["tiny ℓ∞", "twin ℓ∞", "A"],
    ]
    shown = readme_tables.blocks(page.read_text())["paper"].splitlines()
    assert [line.split(" | ")[1:3] for line in shown[2:]] == [["ℓ2", "ℓ2"]]
    write("runs/failed", result("failed"))
    with pytest.raises(SystemExit, match="is not ok"):
        readme_tables.main(["--quickstart", "runs/failed/results.json"])


def test_the_streams_numbers_stand_in_their_columns_and_no_path_is_kept(monkeypatch, tmp_path):
    point = {"norm": "inf", "strength": 1.0, "ci95": [1.0, 2.0]}
    points = [
        {**point, "pattern": name, "seen": seen, "relative": base + seen}
        for name, base in (("a", 60.0), ("b", 50.0))
        for seen in (0, -1, 16, 4)
    ]
    command = "python -m experiments.stream --patterns /a/b/banks data.root=[/c/d,/c/e]"
    content = {"command": command, "network": "tiny", "size": 64, "points": points}
    (tmp_path / "new.json").write_text(json.dumps(content))
    target = tmp_path / "stream" / "{network}-{size}.json"
    readme_tables.take_stream(tmp_path / "new.json", target)
    kept = json.loads((tmp_path / "stream" / "tiny-64.json").read_text())
    assert kept["command"] == "python -m experiments.stream --patterns banks data.root=[d,e]"
    head, _, line = stream_tables.stream_table(tmp_path / "stream").splitlines()
    assert head == "| Classifier | Perturbations | no defence | 4 | 16 | known |"
    cells = line.strip("| ").split(" | ")
    assert cells[:2] == ["tiny, 64 px", "2 of ℓ∞, ξ = 10"]
    # The mean of 60 + seen and 50 + seen, and the lower one with its interval.
    assert cells[2] == "55.0 (50.0 [1.0, 2.0])"
    assert [cell.split(" ")[0] for cell in cells[2:]] == ["55.0", "59.0", "71.0", "54.0"]


def window(seen, count, clean, defended, ci95=(1.0, 2.0)):
    accuracies = {"acc_clean": clean, "acc_perturbed": 25.0, "acc_known": 50.0}
    rest = {"acc_defended": defended, "ci95": ci95}
    key = {"attacker": "shift", "share": 50.0, "patterns": 1}
    return {**key, "seen": seen, "n_images": count, **accuracies, **rest}


def test_windows_of_a_stream_are_put_together_by_their_images(tmp_path):
    stream = {"attacker": "shift", "share": 50.0, "patterns": 1, "until": None}
    stream |= {"false_alarms": 3, "n_clean": 90}
    clean = {**stream, "share": 0.0}
    windows = [window(0, 1, 50.0, 0.0), window(1, 1, 50.0, 50.0), window(2, 3, 50.0, 10.0)]
    windows.append(window(128, 7, 50.0, 45.0))
    file = tmp_path / "protocol.json"
    file.write_text(json.dumps({"streams": [clean, stream], "windows": windows}))
    head, _, none, line = stream_tables.attackers_table([file]).splitlines()
    assert head.startswith("| Attacker | share attacked | patterns | no defence | images 2 to 32 |")
    assert none == "| none | 0 % |  |  |  |  |  |  |  | 3 of 90 |"
    # 1 image of 50 and 3 of 10, of 4 of 50: 80 / 200; nothing from 33 to 128.
    assert line.strip("| ").split(" | ")[:5] == ["shift", "50 %", "1", "50.0", "40.0"]
    assert line.endswith("|  | 90.0 [1.0, 2.0] | 100.0 |  | 3 of 90 |")


def test_what_hides_stands_beside_its_weight(tmp_path):
    points = [
        {"pattern": f"weight-{weight}/test-0000", "seen": seen, "relative": base, "ci95": [1, 2]}
        for weight, base in ((0, 70.0), (3, 80.0))
        for seen in (8, 0, -1)
    ]
    file = tmp_path / "hidden.json"
    file.write_text(json.dumps({"points": points}))
    head, _, first, second = stream_tables.memory_table(
        [file], "Weight of hiding", "weight-"
    ).splitlines()
    assert head == "| Weight of hiding | no defence | 8 | known |"
    assert first == "| 0" + " | 70.0 [1.0, 2.0]" * 3 + " |"
    assert second.startswith("| 3 | 80.0")


def test_the_ablation_of_p_star_is_sorted_by_norm_steps_and_kind(tmp_path):
    for steps, norm, kind in ((800, "linf", "vary"), (3200, "l2", "none"), (800, "l2", "none")):
        content = result(rows=[a_row("tiny", norm), a_row("tiny", norm, protocol="b")])
        content["config"] = {"rectifier": {"training": {"steps": steps}}}
        write("made", content)
        (tmp_path / f"{steps}-train-tiny-{norm}-{kind}.json").write_text(
            Path("made/results.json").read_text()
        )
    for made in Path().glob("made*"):
        shutil.rmtree(made)
    lines = ablation_tables.extension_table(tmp_path).splitlines()[2:]
    heads = [line.split(" | ")[:3] for line in lines]
    assert heads == [
        ["| ℓ2", "800", "the crafted ones alone"],
        ["| ℓ2", "3,200", "the crafted ones alone"],
        ["| ℓ∞", "800", "crafted ones, in random relatives"],
    ]
    assert f"{a_row('tiny', 'linf')['defense_rate']:.1f} % [" in lines[2]


def test_the_learning_table_is_that_of_its_file():
    lines = [Line("a", 0, None, 80.0, 60.0, 90.0, 91.0, 70.0, (1.0, 2.0)), Line("b", 0, "why")]
    file = Path("learning.json")
    file.write_text(json.dumps(asdict(Learning(120, 8, lines))))
    assert ablation_tables.learning_table(file) == markdown(lines)
    content = json.loads(file.read_text())
    del content["steps"]
    file.write_text(json.dumps(content))
    with pytest.raises(UapError, match="steps"):
        ablation_tables.learning_table(file)
