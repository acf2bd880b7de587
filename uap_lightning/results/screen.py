"""Results on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from uap_lightning.core.terminal import plain
from uap_lightning.results.row import Row
from uap_lightning.results.rows import Result, condition_label
from uap_lightning.results.tables import LINES, METRICS, cell, heading, lines_of

TITLE = "Defence against universal adversarial perturbations"
ACROSS = 4  # columns of numbers that a terminal has room for


def title(row: Row) -> str:
    """What a column is: networks, norms, protocol."""
    return f"{condition_label(row)}, Prot-{row.protocol.upper()}"


def show(results: Sequence[Result]) -> None:
    """Print the table, the failed runs and the seconds a stage, on standard output."""
    console = Console(width=None if Console().is_terminal else 120)
    done = [result for result in results if result.content.status == "ok"]
    rows = [row for result in done for row in result.content.rows]
    if rows:
        console.print(_long(done) if len(rows) > ACROSS else _wide(rows))
    for result in results:
        content = result.content
        if content.status != "ok":
            console.print(_text(f"{result.name}: {content.status}: {content.why}"))
    if len(results) == 1:
        stages = results[0].content.seconds.items()
        console.print(_text(", ".join(f"{stage} {value:.0f} s" for stage, value in stages)))


def _text(said: str) -> Text:
    """Text that is shown as it is: no markup, no code that a terminal would follow."""
    return Text(plain(said))


def _wide(rows: Sequence[Row]) -> Table:
    """Everything, a column for each row of the results."""
    table = Table(title=TITLE, title_justify="left")
    lines = lines_of(rows)
    table.add_column(heading(cell for _, cells in lines for cell in cells), max_width=40)
    for row in rows:
        table.add_column(_text(title(row)), justify="right")
    for name, cells in lines:
        table.add_row(name, *(cell.text() for cell in cells))
    return table


def _long(results: Sequence[Result]) -> Table:
    """The metrics and their floor, a line for each row of the results."""
    table = Table(title=TITLE, title_justify="left")
    table.add_column("Run", overflow="fold")
    table.add_column("Trained → tested", no_wrap=True)
    shown = [line for line in LINES if line[1] in (*METRICS, "undefended_rate")]
    for name, _ in shown:
        table.add_column(name, justify="right", overflow="fold")
    for result in results:
        for row in result.content.rows:
            numbers = [cell(row, key).value for _, key in shown]
            table.add_row(_text(result.name), _text(title(row)), *numbers)
    return table
