"""Results as a page and tables: ``python -m uap_lightning.report results=outputs``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from uap_lightning.check import check
from uap_lightning.errors import UapError
from uap_lightning.launch import launch
from uap_lightning.reports.page import render
from uap_lightning.reports.paper import read_paper
from uap_lightning.reports.rows import collect, condition_label, find_results
from uap_lightning.reports.tables import LINES, METRICS, cell, cross_tables, norm_tables
from uap_lightning.reports.text import as_csv, latex, markdown
from uap_lightning.storage import write_atomically

TITLE = "Defence against universal adversarial perturbations"
ACROSS = 4  # columns of numbers that a terminal has room for
SUFFIXES = (".html", ".md", ".csv", ".tex")


def report(cfg: DictConfig) -> None:
    """Render every result below a folder on the screen and as HTML, Markdown, CSV and LaTeX.

    Raises:
        UapError: there is no result, or ``output`` has a suffix that is none of these formats.
    """
    check(cfg)
    output = Path(cfg.output)
    if output.suffix and output.suffix not in SUFFIXES:
        raise UapError(
            f"output is {output}: expected a name that ends in {', '.join(SUFFIXES)}, or one "
            "without a suffix for all of them."
        )
    published = read_paper(cfg.paper)
    results = find_results(Path(cfg.results))
    rows = collect(results, published)
    failed = [result for result in results if result.content["status"] != "ok"]
    show([result.content for result in results])
    tables = [*norm_tables(rows), *cross_tables(rows)]
    for suffix in [output.suffix] if output.suffix else SUFFIXES:
        path = output.with_suffix(suffix)
        if suffix == ".html":
            text = render(results, rows)
        elif suffix == ".md":
            text = markdown(tables, failed)
        elif suffix == ".csv":
            text = as_csv(rows, failed)
        else:
            text = latex(tables)
        write_atomically(path, text.encode())
        Console().print(f"Wrote {path}", markup=False, highlight=False, soft_wrap=True)


def title(row: Mapping[str, Any]) -> str:
    """What a column is: networks, norms, protocol."""
    return f"{condition_label(dict(row))}, Prot-{row['protocol'].upper()}"


def show(results: Sequence[Mapping[str, Any]]) -> None:
    """Print the table, the failed runs and the seconds a stage, on standard output."""
    console = Console(width=None if Console().is_terminal else 120)
    done = [result for result in results if result["status"] == "ok"]
    rows = [row for result in done for row in result["rows"]]
    if rows:
        console.print(_long(done) if len(rows) > ACROSS else _wide(rows))
    for result in results:
        if result["status"] != "ok":
            reason = result.get("reason") or "no reason given"
            said = f"{result['config'].get('name')}: {result['status']}: {reason}"
            console.print(said, markup=False, highlight=False)
    if len(results) == 1:
        seconds = {stage: f"{value:.0f} s" for stage, value in results[0]["seconds"].items()}
        said = ", ".join(f"{stage} {value}" for stage, value in seconds.items())
        console.print(said, markup=False)


def _wide(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Everything, a column for each row of the results."""
    table = Table(title=TITLE, title_justify="left")
    table.add_column("Metric [95 % interval]")
    for row in rows:
        table.add_column(Text(title(row)), justify="right")
    for name, key in LINES:
        table.add_row(name, *(cell(dict(row), key).text() for row in rows))
    return table


def _long(results: Sequence[Mapping[str, Any]]) -> Table:
    """The metrics and their floor, a line for each row of the results."""
    table = Table(title=TITLE, title_justify="left")
    table.add_column("Run", overflow="fold")
    table.add_column("Trained → tested", no_wrap=True)
    shown = [line for line in LINES if line[1] in (*METRICS, "undefended_rate")]
    for name, _ in shown:
        table.add_column(name, justify="right", overflow="fold")
    for result in results:
        for row in result["rows"]:
            numbers = [cell(row, key).value for _, key in shown]
            run = Text(str(result["config"].get("name")))
            table.add_row(run, Text(title(row)), *numbers)
    return table


def main() -> None:
    """Console script ``uap-report``."""
    launch(report, "report")


if __name__ == "__main__":
    main()
