"""What the page draws."""

import pytest

from tests.results.samples import a_row, found, rate_of, result
from uap_lightning.results.charts import bar_charts, unseen_matrices


def test_the_matrix_of_unseen_perturbations_is_there_where_they_are_of_several_kinds():
    known, unseen = result(), result(attack="fast_feature_fool")
    unseen["rows"][0] |= {"defense_rate": 61.5}
    others = [result(rectifier="jpeg", attack=attack) for attack in ("gd_uap", "cosine_uap")]
    _, rows = found(known, unseen, *others, result(rectifier="median"))
    (matrix,) = unseen_matrices(rows)
    attacks = ("cosine_uap", "fast_feature_fool", "gd_uap")
    assert matrix.columns == [f"tiny ℓ∞ ξ=10 {attack}" for attack in attacks]
    rates = {name: [row and row.defense_rate for row in line] for name, line in matrix.lines}
    rate = rate_of()
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
    kept = {row.defense_rate for _, line in matrix.lines for row in line if row}
    assert {90.0, 89.0, 88.0, 87.0, 86.0} <= kept
    assert len(matrix.lines) == 3


def test_bars_are_sorted_and_carry_interval_and_floor():
    weak = result(rows=[a_row(defense_rate=20.0)], rectifier="jpeg")
    _, rows = found(weak, result())
    (chart,) = bar_charts(rows)  # no detection rate, so no chart of it
    rate = rate_of()
    assert [bar.value for bar in chart.bars] == [rate, 20.0]
    assert chart.bars[0].interval == pytest.approx((rate - 3.21, rate + 2.5))
    assert {bar.floor for bar in chart.bars} == {55.25}
