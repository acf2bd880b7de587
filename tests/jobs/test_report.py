"""The command that renders every result below a folder."""

import re
from pathlib import Path

import pytest

from tests.results.samples import a_row, result, write
from tests.tiny import composed
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.report import report


def the_report(*overrides):
    report(composed("report", "results=runs", *overrides))


def test_the_command_writes_every_form_or_the_one_asked_for(capsys):
    write("runs/a", result())
    write("runs/b", result("failed"))
    Path("runs/c").mkdir()
    Path("runs/c/results.json").write_text("{")
    the_report("output=all/table")
    written = {path.suffix: path.read_text() for path in Path("all").iterdir()}
    assert set(written) == {".html", ".md", ".csv", ".tex"}
    for suffix in (".html", ".md", ".csv"):
        assert "no disk | left at 5%" in written[suffix].replace("\\|", "|")
        assert "is not valid JSON" in written[suffix]
    the_report("output=broken.csv", "results=runs/c")
    assert "is not valid JSON" in Path("broken.csv").read_text()
    the_report("output=one.md", "results=runs/a/results.json")
    assert f"{a_row()['defense_rate']:.1f} %" in Path("one.md").read_text()
    assert not Path("one.html").exists()
    with pytest.raises(UapError, match=r"output is table\.pdf: expected"):
        the_report("output=table.pdf")
    capsys.readouterr()
    for nothing in ("", ".", "..", "/"):
        with pytest.raises(UapError, match=f"output is {re.escape(nothing) or 'empty'}: expected"):
            the_report(f"output={nothing}")
    assert capsys.readouterr().out == ""
    with pytest.raises(UapError, match=r"holds no results\.json"):
        the_report("results=all")


def test_a_report_is_made_of_results_that_lack_what_explains_them():
    content = result("failed")
    del content["reason"]
    write("runs/a", content)
    write("runs/b", {**result(), "config": {"name": None, "norm": None, "data": 3}})
    the_report("output=all/table")
    assert "no reason given" in Path("all/table.md").read_text()
