"""A report as Markdown, CSV and LaTeX."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from tests.results.samples import a_row, found, rate_of, result, whole_network
from uap_lightning.results.tables import cross_tables, norm_tables
from uap_lightning.results.text import as_csv, latex, markdown


def test_rows_of_runs_that_did_not_end_well_are_in_no_table():
    results, rows = found(result("failed"), result("running"))
    assert rows == []
    assert "Defense rate" not in as_csv(rows, results)
    assert [line["status"] for line in csv.DictReader(io.StringIO(as_csv(rows, results)))] == [
        "failed",
        "running",
    ]


def test_markdown_has_its_numbers_and_its_failures():
    results, rows = found(result(), result("failed"))
    lines = markdown(norm_tables(rows), results[1:]).splitlines()
    rate = rate_of()
    assert lines[0] == "| Metric [95 % interval] | Same norm, ℓ∞, ξ=10, Prot-A |"
    assert f"| Defense rate | {rate:.1f} % [{rate - 3.21:.1f}, {rate + 2.5:.1f}] |" in lines
    assert "| Undefended rate (floor) | 55.2 % |" in lines
    assert r"- run-1: failed: no disk \| left at 5%" in lines
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


def test_csv_holds_the_second_interval():
    results, rows = found(result(ci95_perturbations={"defense_rate": [50.25, 99.5]}))
    (read,) = csv.DictReader(io.StringIO(as_csv(rows, results[1:])))
    ends = [read[f"defense_rate_perturbations_{end}"] for end in ("low", "high")]
    assert ends == ["50.25", "99.5"]
    assert read["prn_gain_perturbations_low"] == ""


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


EVIL = "<img src=x onerror=alert(1)>|[a](http://x) `b` **c**\n# d\n\n<b>&amp;"


class Seen(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))

    def handle_data(self, data):
        self.text += data


def test_markdown_shows_names_as_they_are():
    """As another library renders it: no tag, link or column comes from a name."""
    contents = [result(rows=[a_row(name, "l2")]) for name in (EVIL, "tiny")]
    contents += [result(rows=[a_row("tiny", "l2", EVIL)]), {**result("failed"), "reason": EVIL}]
    results, rows = found(*contents)
    tables = [*norm_tables(rows), *cross_tables(rows)]
    page = Seen(MarkdownIt().enable("table").render(markdown(tables, results[-1:])))
    ours = {"h2", "table", "thead", "tbody", "tr", "th", "td", "strong", "ul", "li"}
    assert {tag for tag, _ in page.tags} == ours
    wanted = " ".join(EVIL.split())
    assert page.text.count(wanted) >= 5
    tags = [tag for tag, _ in page.tags]
    # As many cells as the tables have, each line as long as its header.
    cells = sum((1 + len(t.columns())) * (1 + len(t.lines)) for t in tables)
    assert tags.count("th") + tags.count("td") == cells


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", " =", "\n-", "\uff1d"])
def test_no_cell_of_a_csv_is_a_formula(start):
    name = f'{start}HYPERLINK("http://x")'
    content = result(rows=[a_row(name, prn_gain=-12.5)], data=name, attack=name)
    results, rows = found(content, {**result("failed"), "reason": name})
    lines = list(csv.reader(io.StringIO(as_csv(rows, results[1:]))))
    at = dict(zip(*lines[:2], strict=True))
    assert float(at["prn_gain"]) == -12.5  # a number, not text
    texts = [text for line in lines for text in line if "HYPERLINK" in text]
    assert len(texts) == 6
    for text in texts:
        assert text[0] == "'"
        assert not set(text) & set("\t\r\n")


def test_latex_takes_no_command_from_a_name():
    name = "[9pt]*\\input{x}%"
    _, rows = found(*(result(rows=[a_row(train, "l2", name)]) for train in (name, "tiny")))
    text = latex([*norm_tables(rows), *cross_tables(rows)])
    assert "\\input" not in text
    # an optional argument of the line break before it
    assert not re.search(r"\\\\\s*[\[*]", text)
