"""Results below a folder, and their rows beside the paper's."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.results.samples import a_row, found, result, write
from uap_lightning.core.errors import UapError
from uap_lightning.results.paper import PaperRow
from uap_lightning.results.rows import find_results, gather_rows
from uap_lightning.results.tables import norm_tables
from uap_lightning.results.text import markdown


def test_published_numbers_stand_beside_the_same_condition_only():
    row = a_row("googlenet", "l2")
    keys = ("train_network", "test_network", "perturbation_network", "train_norm", "test_norm")
    published = PaperRow(
        **{key: row[key] for key in keys}, table=1, protocol="A", defense_rate=97.4
    )
    _, rows = found(result(rows=[row]), published=[published])
    difference = row["defense_rate"] - 97.4
    cells = dict(norm_tables(rows)[0].lines)["Defense rate"]
    assert cells[0].paper == f"paper 97.4 ({difference:+.1f})"
    assert f"; paper 97.4 ({difference:+.1f})" in markdown(norm_tables(rows), [])
    other_radius = result(rows=[row])
    other_radius["config"]["norm"]["eps"] = 1000.0
    other_crop = result(rows=[row])
    # At another size no l_2 radius is the paper's; this one would come out at 2000.
    other_crop["config"]["data"]["crop"] = 160
    other_crop["config"]["norm"]["reference_size"] = 160
    for other in (
        other_radius,
        other_crop,
        result(rows=[row], rectifier="jpeg"),
        result(rows=[row], attack="fast_feature_fool"),
        result(rows=[{**row, "perturbation_network": "vgg_f"}]),
        result(rows=[{**row, "protocol": "b"}]),
        result(rows=[{**row, "label_source": "prediction"}]),
        result(rows=[row], data="photos"),
    ):
        assert found(other, published=[published])[1][0].paper is None


@contextmanager
def nobody():
    """Without root's right to read everything."""
    was = os.geteuid()
    if was == 0:
        Path().chmod(0o755)
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def test_a_folder_that_cannot_be_read_is_named():
    write("runs/a", result())
    write("runs/closed/b", result())
    Path("runs/closed").chmod(0)
    try:
        with nobody():
            results = find_results(Path("runs"))
            with pytest.raises(UapError, match=r"holds no results\.json \(Permission denied\)"):
                find_results(Path("runs/closed"))
    finally:
        Path("runs/closed").chmod(0o755)
    assert [(r.name, r.content.status) for r in results] == [("a", "ok"), ("closed", "failed")]
    assert results[1].content.why == "the folder cannot be read (Permission denied)"
    assert [row.run for row in gather_rows(results, [])] == ["a"]


def test_the_radius_is_that_of_the_ball_at_the_crops_size():
    content = result(rows=[a_row("googlenet", "l2")])
    content["config"]["data"]["crop"] = 128
    (row,) = found(content)[1]
    # The same length a pixel: the side goes with the square root of the pixels.
    assert row.eps == pytest.approx(2000 * (128**2 / 224**2) ** 0.5)
    (table,) = norm_tables([row])
    assert any("ξ=1142.86" in label for label in table.columns())


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        *[("norm", "eps", value) for value in (10**400, True, "10", None, -1, 1e9, [1])],
        *[("norm", "p", value) for value in (1, None, True, [2])],
        *[("norm", "reference_size", value) for value in (0, -(10**400))],
        *[("data", "crop", value) for value in (10**400, 0, "x", None, True)],
    ],
)
def test_an_odd_config_says_no_radius(part, key, value):
    content = result(rows=[a_row("googlenet", "l2")])
    content["config"][part][key] = value
    if key == "reference_size" and value < 0:
        content["config"]["norm"]["eps"] = True
    (row,) = found(content)[1]
    assert row.eps is None
    assert norm_tables([row])
