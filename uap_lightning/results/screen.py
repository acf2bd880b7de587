"""Results on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from uap_lightning.results.rows import condition_label
from uap_lightning.results.tables import LINES, METRICS, cell

TITLE = "Defence against universal adversarial perturbations"
ACROSS = 4  # columns of numbers that a terminal has room for


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
