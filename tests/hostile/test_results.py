"""A stranger's results.json, and what a report makes of it."""

import csv
import json
import math
import re
import shutil

import pytest

from tests.hostile.files import WAYS, replace_file

ODD = {
    **{"none": None, "text": "abc", "nan": math.nan, "list": [1], "object": {"a": {"b": 1}}},
    **{"huge": 10**30, "enormous": 10**400, "negative": -1, "true": True, "empty": ""},
    **{"markup": "[red]x[/red]", "close": "[/red]", "script": "<script>alert(1)</script>"},
    **{"image": "<img src=x onerror=alert(1)>", "link": "[x](javascript:alert(1))"},
    **{"formula": "=cmd|' /C calc'!A0", "plus": "+1+1", "at": "@SUM(A1)", "minus": "-1+1"},
    **{"newline": "a\n# b\n|c|", "bar": "a|b|c", "latex": r"\input{/etc/passwd} & _ % $ # {"},
    **{"surrogate": "\ud800", "escape": "\x1b[31mred\x07", "long": "n" * 5000, "tab": "\t=1"},
    **{"return": "\r=1", "bidi": "\u202egnp.exe", "zero": "a\x00b"},
}
PLACES = (
    *("status", "reason", "rows", "seed", "seconds", "config", "versions", "commit", "digests"),
    *("schema", "run_id", "config.name", "config.norm", "config.data.name", "seconds.train"),
    *("rows.0", "rows.0.train_network", "rows.0.test_norm", "rows.0.protocol", "rows.0.attack"),
    *("rows.0.rectifier", "rows.0.acc_clean", "rows.0.defense_rate", "rows.0.n_images"),
    *("rows.0.ci95", "rows.0.label_source", "rows.0.perturbation_network"),
)


@pytest.fixture
def results(material, tmp_path):
    """A folder with one sound result and one to spoil."""
    for name in ("sound", "spoiled"):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        shutil.copy(material / "outputs" / "run" / "results.json", folder)
    return tmp_path / "results"


def put(content, place, value):
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in path:
        content = content[part]
    content[last] = value


def check_report(folder):
    """Nothing in the files runs anywhere, and every cell is a text or a number."""
    page = (folder / "report.html").read_text()
    table = (folder / "report.md").read_text()
    for text in (page, table):
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "nan" not in re.findall(r"[\w]+(?= %)", text)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text.replace("\r\n", "\n"))
    # An escaped bracket ends no link.
    assert not re.search(r"(?<!\\)\]\(javascript:", table)
    tex = (folder / "report.tex").read_text()
    assert r"\input" not in tex
    with (folder / "report.csv").open(newline="") as file:
        for row in csv.reader(file):
            for cell in row:
                number = re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", cell)
                assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize("place", PLACES)
def test_a_value_that_no_run_writes(place, value, results, hostile, tmp_path):
    path = results / "spoiled" / "results.json"
    content = json.loads(path.read_text())
    put(content, place, value)
    path.write_text(json.dumps(content))
    # One that cannot be read stands as a failed run beside the others.
    hostile("report", f"results={results}", expect="ok")
    check_report(tmp_path)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "among others"])
@pytest.mark.parametrize("how", WAYS)
def test_a_results_file_that_is_something_else(how, alone, results, hostile, tmp_path):
    path = results / "spoiled" / "results.json"
    replace_file(path, how)
    if alone:
        hostile("report", f"results={path}")
    else:
        done = hostile("report", f"results={results}", expect="ok")
        if how not in ("missing",):
            assert "spoiled" in done.said


@pytest.mark.parametrize(
    "name",
    [
        "[red]",
        "<script>alert(1)</script>",
        "a|b",
        "=1+1",
        "a\nb",
        "\x1b[31m",
        "_%&#$",
        "\udcff",
        "é",
    ],
)
def test_a_folder_with_an_odd_name(name, results, hostile, tmp_path):
    (results / "spoiled").rename(results / name.replace("/", "_"))
    hostile("report", f"results={results}", expect="ok")
    check_report(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        *(["results=/nope"], ["results=/dev/null"], ["results=/dev/zero"], ["results=''"]),
        *(["output=a.pdf"], ["output=/proc/x"], ["output=/nope/../"], ["output=''"]),
        *(["paper=/nope"], ["paper=/dev/zero"], ["paper=/"], [f"output={'n' * 300}"]),
        *(["results=."], ["results=null"], ["output=null"]),
    ],
)
def test_places_of_a_report_that_cannot_be(words, hostile, material):
    keys = {word.partition("=")[0] for word in words}
    base = [] if "results" in keys else [f"results={material / 'outputs'}"]
    hostile("report", *base, *words)


@pytest.mark.parametrize("how", ["deep", "pickle", "bytes", "text", "list", "number", "fifo"])
def test_published_numbers_that_are_none(how, hostile, material, tmp_path):
    replace_file(tmp_path / "paper.yaml", how)
    hostile("report", f"results={material / 'outputs'}", "paper=paper.yaml")
