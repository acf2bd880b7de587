"""Tables in the paper's layout."""

from dataclasses import replace

from tests.results.samples import a_row, found, rate_of, result, typed, whole_network
from uap_lightning.results.paper import read_paper
from uap_lightning.results.rows import gather_rows, published_row
from uap_lightning.results.tables import LINES, METRICS, cell, cross_tables, norm_tables


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
        rate_of("googlenet", train, None, test, protocol)
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
        rates = [rate_of(train, "l2", test) for train in networks]
        assert [cell.value for cell in cells] == [f"{rate:.1f} %" for rate in rates]
    assert "Undefended rate (floor)" in names
    assert cross_tables(rows[:1]) == []


def test_the_papers_own_numbers_are_found():
    row = a_row("googlenet_bvlc", "l2", protocol="b")
    _, rows = found(result(rows=[row]), published=read_paper(None))
    # Table 1, second column
    cells = {key: dict(norm_tables(rows)[0].lines)[name][0].paper for name, key in LINES[:4]}
    table_1 = dict(zip(METRICS, (77.1, 92.4, 94.6, 94.8), strict=True))
    for key, value in cells.items():
        assert value.startswith(f"paper {table_1[key]} ") or row[key] is None


def test_the_papers_number_of_the_same_cell_stands_beside_another_condition_without_a_difference():
    row = a_row("googlenet_bvlc", "l2", protocol="b", rectifier="prn_residual")
    results, _ = found(result(rows=[row], data="imagenet_sample"))
    (plain,) = gather_rows(results, read_paper(None))
    assert plain.paper is None
    (beside,) = gather_rows(results, read_paper(None), every_cell=True)
    # Table 1, second column
    assert cell(beside, "defense_rate").paper == "paper 94.8"
    assert cell(beside, "acc_clean").paper == ""
    other = replace(beside, train_network="squeezenet")
    assert published_row(other, read_paper(None)) is None
    assert published_row(replace(beside, perturbation_network="vggf"), read_paper(None)) is None


def test_both_intervals_and_the_floor_are_in_a_cell_and_the_heading_says_which():
    ci95 = {"defense_rate": (80.0, 90.0)}
    wide = {"defense_rate": (70.0, 99.9), "detection_rate": None}
    row = typed(result(ci95=ci95, ci95_perturbations=wide)).rows[0]
    assert cell(row, "defense_rate").wider == "(70.0, 99.9)"
    shown = cell(row, "defense_rate").text(floor=True)
    assert shown == f"{row.defense_rate:.1f} % [80.0, 90.0] (70.0, 99.9); floor 55.2"
    assert cell(row, "detection_rate").wider == cell(row, "prn_gain").wider == ""
    _, rows = found(result(ci95_perturbations=wide))
    assert norm_tables(rows)[0].metric == (
        "Metric [95 % interval over photographs] (over photographs and perturbations)"
    )
    _, rows = found(result(ci95_perturbations={"defense_rate": None}))
    assert norm_tables(rows)[0].metric == "Metric [95 % interval]"
