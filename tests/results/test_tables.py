"""Tables in the paper's layout."""

from tests.results.samples import a_row, found, rate_of, result, whole_network
from uap_lightning.results.paper import read_paper
from uap_lightning.results.tables import LINES, METRICS, cross_tables, norm_tables


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
