"""Results as a page and tables: ``python -m uap_lightning.report results=outputs``."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.text import Text

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically
from uap_lightning.core.terminal import plain
from uap_lightning.jobs.config import typed
from uap_lightning.jobs.schema import ReportConfig
from uap_lightning.results.page import render
from uap_lightning.results.paper import read_paper
from uap_lightning.results.rows import find_results, gather_rows
from uap_lightning.results.screen import show
from uap_lightning.results.tables import cross_tables, norm_tables
from uap_lightning.results.text import as_csv, latex, markdown

SUFFIXES = (".html", ".md", ".csv", ".tex")


def report(composed: DictConfig) -> None:
    """Render every result below a folder on the screen and as HTML, Markdown, CSV and LaTeX.

    Raises:
        UapError: there is no result, or ``output`` names no file or has a suffix that is none of
            these formats.
    """
    cfg = typed(composed, ReportConfig)
    output = Path(cfg.output)
    if output.name in ("", "..") or output.suffix not in ("", *SUFFIXES):
        raise UapError(
            f"output is {cfg.output or 'empty'}: expected a name that ends in "
            f"{', '.join(SUFFIXES)}, or one without a suffix for all of them."
        )
    published = read_paper(cfg.paper)
    results = find_results(Path(cfg.results))
    rows = gather_rows(results, published)
    failed = [result for result in results if result.content.status != "ok"]
    show(results)
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
        Console().print(Text(f"Wrote {plain(str(path))}"), soft_wrap=True)
