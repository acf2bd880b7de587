"""Tables from results.json in every form, and results that are refused."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from uap_lightning.core.errors import UapError
from uap_lightning.jobs.config import find_conf, register_schemas
from uap_lightning.jobs.report import report
from uap_lightning.results.charts import bar_charts, unseen_matrices
from uap_lightning.results.file import read_results
from uap_lightning.results.paper import read_paper
from uap_lightning.results.rows import find_results, gather_rows
from uap_lightning.results.screen import show
from uap_lightning.results.tables import LINES, METRICS, cross_tables, norm_tables
from uap_lightning.results.text import as_csv, latex, markdown, tex

EPS = {"linf": 10.0, "l2": 2000.0}


def a_row(train="tiny", train_norm="linf", test=None, test_norm=None, protocol="a", **more):
    """A result row with numbers that differ from condition to condition."""
    test, test_norm = test or train, test_norm or train_norm
    rate = 60 + sum(map(ord, f"{train}{train_norm}{test}{test_norm}{protocol}")) % 370 / 10
    return {
        "train_network": train,
        "train_norm": train_norm,
        "test_network": test,
        "perturbation_network": test,
        "test_norm": test_norm,
        "protocol": protocol,
        "label_source": "ground_truth",
        "n_images": 40,
        "prn_gain": rate - 20,
        "prn_restoration": rate - 1,
        "detection_rate": None,
        "defense_rate": rate,
        "undefended_rate": 55.25,
        "ci95": {"defense_rate": [rate - 3.21, rate + 2.5], "detection_rate": None},
        **more,
    }


def result(status="ok", rows=None, rectifier="prn", attack="cosine_uap", data="imagenet"):
    rows = [a_row()] if rows is None else rows
    norm = rows[0]["test_norm"]
    return {
        "schema": 1,
        "status": status,
        "reason": None if status != "failed" else "no disk | left\nat 5%",
        "seed": 0,
        "seconds": {"train": 1.0},
        "versions": {"torch": "2.15.0"},
        "commit": "0a84f74",
        "digests": {"bank": "ab12"},
        "config": {
            "name": "run",
            "norm": {"name": norm, "eps": EPS[norm]},
            "rectifier": {"name": rectifier},
            "detector": {"name": "dct_svm"},
            "data": {"name": data},
            "attack": {"name": attack},
        },
        "rows": rows,
    }


def write(folder, content):
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "results.json").write_text(json.dumps(content))


def found(*contents, published=()):
    """Results written to a folder each, read again, and their rows."""
    for number, content in enumerate(contents):
        write(f"runs/run-{number}", content)
    results = find_results(Path("runs"))
    return results, gather_rows(results, list(published))


def whole_network(train="googlenet"):
    """What Tables 1-3 hold of one network: both norms, same and different, both protocols."""
    return [
        result(rows=[a_row(train, train_norm, train, norm, protocol) for protocol in "ab"])
        for train_norm in ("linf", "l2")
        for norm in ("linf", "l2")
    ]


def the_report(*overrides):
    register_schemas()
    with initialize_config_dir(find_conf(), version_base="1.3"):
        report(compose("report", ["results=runs", *overrides]))


def test_a_network_has_the_columns_of_table_1():
    _, rows = found(*whole_network())
    (table,) = norm_tables(rows)
    assert table.header[0] == [("Same norm", 4), ("Different norm", 4)]
    assert [span for _, span in table.header[1]] == [2, 2, 2, 2]
    assert [label for label, _ in table.header[1]] == [
        *("ℓ2, ξ=2000", "ℓ∞, ξ=10"),
        *("ℓ∞ → ℓ2, ξ=2000", "ℓ2 → ℓ∞, ξ=10"),
    ]
    assert table.header[2] == [("Prot-A", 1), ("Prot-B", 1)] * 4
    conditions = [("l2", "l2"), ("linf", "linf"), ("linf", "l2"), ("l2", "linf")]
    rates = [
        a_row("googlenet", train, None, test, protocol)["defense_rate"]
        for train, test in conditions
        for protocol in "ab"
    ]
    cells = dict(table.lines)["Defense rate"]
    assert [cell.value for cell in cells] == [f"{rate:.1f} %" for rate in rates]
    assert [cell.interval for cell in cells] == [f"[{r - 3.21:.1f}, {r + 2.5:.1f}]" for r in rates]
    assert {cell.floor for cell in cells} == {"floor 55.2"}
    assert {cell.value for cell in dict(table.lines)["Detection rate"]} == {"n/a"}


def test_defences_stand_in_tables_of_their_own_and_repeated_runs_are_named():
    _, rows = found(result(), result(rectifier="jpeg"), result())
    jpeg, prn = norm_tables(rows)
    assert jpeg.title == "tiny: jpeg + dct_svm on data=imagenet, seed 0"
    assert len(jpeg.columns()) == 1
    assert prn.header[-2:] == [[("Prot-A", 2)], [("run-0", 1), ("run-2", 1)]]
    _, rows = found(result(), result(attack="fast_feature_fool"), result("failed"))
    assert norm_tables(rows)[0].header[-1] == [("cosine_uap", 1), ("fast_feature_fool", 1)]


def test_a_table_says_where_the_labels_are_predictions():
    _, rows = found(result(), result(rows=[a_row(label_source="prediction")]))
    labelled, predicted = norm_tables(rows)
    assert labelled.title.endswith("seed 0")
    assert predicted.title.endswith("seed 0, counted against the network's own predictions")


def test_rows_of_runs_that_did_not_end_well_are_in_no_table(capsys):
    results, rows = found(result("failed"), result("running"))
    assert rows == []
    assert "Defense rate" not in as_csv(rows, results)
    assert [line["status"] for line in csv.DictReader(io.StringIO(as_csv(rows, results)))] == [
        "failed",
        "running",
    ]
    show([result("failed")])
    assert "Defense rate" not in capsys.readouterr().out


def test_the_cross_network_tables_have_the_tested_network_on_the_line():
    networks = ("caffenet", "googlenet")
    contents = [result(rows=[a_row(train, "l2", test)]) for train in networks for test in networks]
    _, rows = found(*contents)
    (table,) = cross_tables(rows)
    assert table.header == [[("Trained on", 2)], [("caffenet", 1), ("googlenet", 1)]]
    names = [name for name, _ in table.lines]
    at = names.index("Defense rate")
    for offset, test in enumerate(networks, start=1):
        name, cells = table.lines[at + offset]
        assert name == test
        rates = [a_row(train, "l2", test)["defense_rate"] for train in networks]
        assert [cell.value for cell in cells] == [f"{rate:.1f} %" for rate in rates]
    assert "Undefended rate (floor)" in names
    assert cross_tables(rows[:1]) == []


def test_published_numbers_stand_beside_the_same_condition_only():
    row = a_row("googlenet", "l2")
    published = {key: row[key] for key in ("train_network", "test_network", "train_norm")}
    published |= {"test_norm": "l2", "protocol": "A", "defense_rate": 97.4}
    _, rows = found(result(rows=[row]), published=[published])
    difference = row["defense_rate"] - 97.4
    cells = dict(norm_tables(rows)[0].lines)["Defense rate"]
    assert cells[0].paper == f"paper 97.4 ({difference:+.1f})"
    assert f"; paper 97.4 ({difference:+.1f})" in markdown(norm_tables(rows), [])
    other_radius = result(rows=[row])
    other_radius["config"]["norm"]["eps"] = 1000.0
    for other in (
        other_radius,
        result(rows=[row], rectifier="jpeg"),
        result(rows=[row], attack="fast_feature_fool"),
        result(rows=[{**row, "perturbation_network": "vgg_f"}]),
        result(rows=[{**row, "protocol": "b"}]),
        result(rows=[{**row, "label_source": "prediction"}]),
        result(rows=[row], data="photos"),
    ):
        assert found(other, published=[published])[1][0]["paper"] is None


def test_the_papers_own_numbers_are_found():
    row = a_row("googlenet_bvlc", "l2", protocol="b")
    _, rows = found(result(rows=[row]), published=read_paper(None))
    # Table 1, second column
    cells = {key: dict(norm_tables(rows)[0].lines)[name][0].paper for name, key in LINES[:4]}
    table_1 = dict(zip(METRICS, (77.1, 92.4, 94.6, 94.8), strict=True))
    for key, value in cells.items():
        assert value.startswith(f"paper {table_1[key]} ") or row[key] is None


def test_published_numbers_are_read_or_refused():
    Path("paper.yaml").write_text(yaml.safe_dump({"rows": [{"table": 1, "defense_rate": 97.4}]}))
    assert read_paper("paper.yaml") == [{"table": 1, "defense_rate": 97.4}]
    with pytest.raises(UapError, match=r"paper is none\.yaml, which cannot be read"):
        read_paper("none.yaml")
    Path("paper.yaml").write_text("rows: [")
    with pytest.raises(UapError, match="is not valid YAML"):
        read_paper("paper.yaml")
    Path("paper.yaml").write_bytes(b"rows: [\xff]")
    with pytest.raises(UapError, match="is not valid YAML"):
        read_paper("paper.yaml")
    Path("paper.yaml").write_text("rows: 3")
    with pytest.raises(UapError, match="has no list of rows"):
        read_paper("paper.yaml")


def test_the_matrix_of_unseen_perturbations_is_there_where_they_are_of_several_kinds():
    known, unseen = result(), result(attack="fast_feature_fool")
    unseen["rows"][0] |= {"defense_rate": 61.5}
    others = [result(rectifier="jpeg", attack=attack) for attack in ("gd_uap", "cosine_uap")]
    _, rows = found(known, unseen, *others, result(rectifier="median"))
    (matrix,) = unseen_matrices(rows)
    attacks = ("cosine_uap", "fast_feature_fool", "gd_uap")
    assert matrix.columns == [f"tiny ℓ∞ ξ=10 {attack}" for attack in attacks]
    rates = {name: [row and row["defense_rate"] for row in line] for name, line in matrix.lines}
    rate = a_row()["defense_rate"]
    assert rates == {
        "tiny ℓ∞, jpeg + dct_svm on data=imagenet, seed 0": [rate, None, rate],
        "tiny ℓ∞, prn + dct_svm on data=imagenet, seed 0": [rate, 61.5, None],
    }
    # a defence that met one kind alone has no place in it
    assert unseen_matrices([rows[0], rows[4]]) == []


def test_the_matrix_keeps_seeds_data_and_radii_apart():
    base = [result(), result(attack="gd_uap")]
    others = [result(attack="gd_uap") for _ in range(3)]
    others[0]["seed"] = 1
    others[1]["config"]["norm"]["eps"] = 5.0
    others[2]["config"]["data"]["name"] = "photos"
    for number, content in enumerate([*base, *others]):
        content["rows"][0]["defense_rate"] = 90.0 - number
    also = [result(), result(data="photos")]
    also[0]["seed"] = 1
    _, rows = found(*base, *others, *also)
    (matrix,) = unseen_matrices(rows)
    kept = {row["defense_rate"] for _, line in matrix.lines for row in line if row}
    assert {90.0, 89.0, 88.0, 87.0, 86.0} <= kept
    assert len(matrix.lines) == 3


def test_bars_are_sorted_and_carry_interval_and_floor():
    weak = result(rows=[a_row(defense_rate=20.0)], rectifier="jpeg")
    _, rows = found(weak, result())
    (chart,) = bar_charts(rows)  # no detection rate, so no chart of it
    rate = a_row()["defense_rate"]
    assert [bar.value for bar in chart.bars] == [rate, 20.0]
    assert chart.bars[0].interval == pytest.approx((rate - 3.21, rate + 2.5))
    assert {bar.floor for bar in chart.bars} == {55.25}


def test_markdown_has_its_numbers_and_its_failures():
    results, rows = found(result(), result("failed"))
    lines = markdown(norm_tables(rows), results[1:]).splitlines()
    rate = a_row()["defense_rate"]
    assert lines[0] == "| Metric [95 % interval] | Same norm, ℓ∞, ξ=10, Prot-A |"
    assert f"| Defense rate | {rate:.1f} % [{rate - 3.21:.1f}, {rate + 2.5:.1f}] |" in lines
    assert "| Undefended rate (floor) | 55.2 % |" in lines
    assert "- run-1: failed: no disk | left at 5%" in lines
    assert len({line.count(" |") for line in lines if line.startswith("| ")}) == 1


def test_csv_holds_what_the_json_holds():
    results, rows = found(result(), result("failed"), result("running"))
    read = list(csv.DictReader(io.StringIO(as_csv(rows, results[1:]))))
    assert [line["status"] for line in read] == ["ok", "failed", "running"]
    assert read[1]["reason"] == "no disk | left at 5%"
    assert read[2]["reason"] == "it did not end"
    for key, value in a_row().items():
        if key != "ci95":
            assert read[0][key] == ("" if value is None else str(value))
    low, high = a_row()["ci95"]["defense_rate"]
    assert (float(read[0]["defense_rate_low"]), float(read[0]["defense_rate_high"])) == (low, high)
    assert read[0]["detection_rate_low"] == read[0]["paper_defense_rate"] == ""


def test_latex_has_as_many_columns_in_every_line():
    _, rows = found(*whole_network("squeeze_net"), result(rows=[a_row("squeeze_net", test="b&b")]))
    text = latex([*norm_tables(rows), *cross_tables(rows)])
    tables = re.findall(r"\\begin\{tabular\}\{l(r+)\}\n(.*?)\\end\{tabular\}", text, re.S)
    assert len(tables) == 2
    for columns, body in tables:
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert lines
        for line in lines:
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            ampersands = len(re.findall(r"(?<!\\)&", line))
            assert ampersands + 1 + sum(span - 1 for span in spans) == len(columns) + 1
    assert r"squeeze\_net" in text
    assert "$\\ell_\\infty$" in text


@given(st.text(max_size=20))
def test_no_special_character_reaches_latex(text):
    left = re.sub(r"\\textbackslash\{\}|\\text(tilde|asciitilde|asciicircum)\{\}", "", tex(text))
    left = re.sub(r"\$\\(ell_2|ell_\\infty|xi|to)\$", "", left)
    assert not re.search(r"(?<!\\)[&%$#_{}~^]|\\(?![&%$#_{}])", left)


def test_the_screen_shows_numbers_and_failed_runs_with_their_reason(capsys):
    show([result(), result("failed")])
    out = capsys.readouterr().out
    assert "run: failed: no disk" in out
    assert f"{a_row()['defense_rate']:.1f} %" in out
    for reason in ("install uap-lightning[export]", "no [/x] here"):
        show([{**result("failed"), "reason": reason}])
        assert f"run: failed: {reason}" in capsys.readouterr().out
    odd = [result(rows=[a_row("net[/x]")]) for _ in range(5)]
    odd[0]["config"]["name"] = "run[export]"
    show(odd)
    out = capsys.readouterr().out
    assert "run[export]" in out
    assert "net[/x] ℓ∞, Prot-A" in out
    show(odd[:1])
    assert "net[/x]" in capsys.readouterr().out
    show(whole_network())
    out = capsys.readouterr().out
    assert out.count("Prot-A") == 4
    assert "googlenet ℓ∞ → googlenet ℓ2, Prot-B" in out


def test_the_command_writes_every_form_or_the_one_asked_for():
    write("runs/a", result())
    write("runs/b", result("failed"))
    Path("runs/c").mkdir()
    Path("runs/c/results.json").write_text("{")
    the_report("output=all/table")
    written = {path.suffix: path.read_text() for path in Path("all").iterdir()}
    assert set(written) == {".html", ".md", ".csv", ".tex"}
    for suffix in (".html", ".md", ".csv"):
        assert "no disk | left at 5%" in written[suffix]
        assert "is not valid JSON" in written[suffix]
    the_report("output=broken.csv", "results=runs/c")
    assert "is not valid JSON" in Path("broken.csv").read_text()
    the_report("output=one.md", "results=runs/a/results.json")
    assert f"{a_row()['defense_rate']:.1f} %" in Path("one.md").read_text()
    assert not Path("one.html").exists()
    with pytest.raises(UapError, match=r"output is table\.pdf: expected"):
        the_report("output=table.pdf")
    with pytest.raises(UapError, match=r"holds no results\.json"):
        the_report("results=all")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "has schema 2"),
        ({"status": "done"}, "has status done"),
        ({"rows": None}, "has no rows"),
        ({"rows": [1]}, "row 0 whose content is not"),
        ({"rows": [{}]}, "row 0 whose train_network is not"),
        ({"rows": [a_row(protocol=None)]}, "row 0 whose protocol is not"),
        ({"rows": [a_row(), a_row(prn_gain="high")]}, "row 1 whose prn_gain is not"),
        ({"rows": [a_row(attack=["cosine_uap"])]}, "row 0 whose attack is not"),
        ({"rows": [a_row(ci95={"prn_gain": [1.0]})]}, "row 0 whose ci95 is not"),
        ({"config": None}, "has a config that is None"),
        ({"seconds": {"train": "long"}}, "expected a number a stage"),
    ],
)
def test_results_of_another_kind_are_refused(change, said):
    write("runs/odd", {**result(), **change})
    with pytest.raises(UapError, match=said):
        read_results(Path("runs/odd/results.json"))
    # below a folder it stands as a failed run
    results, rows = found(result())
    assert [(r.name, r.content["status"]) for r in results] == [("odd", "failed"), ("run-0", "ok")]
    assert len(rows) == 1


def test_a_report_is_made_of_results_that_lack_what_explains_them():
    content = result("failed")
    del content["reason"]
    write("runs/a", content)
    write("runs/b", {**result(), "config": {"name": None, "norm": None, "data": 3}})
    the_report("output=all/table")
    assert "no reason given" in Path("all/table.md").read_text()
