"""A report as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Iterable
from dataclasses import fields

from uap_lightning.results.escape import for_csv, for_latex, for_markdown
from uap_lightning.results.metrics import WITH_INTERVAL
from uap_lightning.results.row import Condition, Numbers
from uap_lightning.results.rows import ReportRow, Result
from uap_lightning.results.tables import METRICS, Table

_RUN = ("run", "status", "reason", "seed", "data", "eps")


def markdown(tables: Iterable[Table], failed: Iterable[Result]) -> str:
    """Tables as GitHub Markdown, with their title where there are several; then failed runs."""
    tables = list(tables)
    blocks = []
    for table in tables:
        columns = [for_markdown(column) for column in table.columns()]
        lines = [f"## {for_markdown(table.title)}", ""] if len(tables) > 1 else []
        lines += [_line("Metric [95 % interval]", columns), f"| --- |{' ---: |' * len(columns)}"]
        for name, cells in table.lines:
            texts = [cell.text() for cell in cells] or [""] * len(columns)
            label = for_markdown(name)
            lines.append(_line(label if cells else f"**{label}**", texts))
        blocks.append("\n".join(lines))
    said = [f"{run.name}: {run.content.status}: {run.content.why}" for run in failed]
    if said:
        failures = [f"- {for_markdown(sentence)}" for sentence in said]
        blocks.append("\n".join(["## Runs without a result", "", *failures]))
    return "\n\n".join(blocks) + "\n"


def _line(name: str, texts: list[str]) -> str:
    return "| " + " | ".join((name, *texts)) + " |"


def as_csv(rows: Iterable[ReportRow], failed: Iterable[Result]) -> str:
    """One line a row with everything it holds, and one line a failed run."""
    condition = [field.name for field in fields(Condition)]
    numbers = [field.name for field in fields(Numbers) if field.name != "ci95"]
    intervals = [f"{key}_{end}" for key in WITH_INTERVAL for end in ("low", "high")]
    published = [f"paper_{key}" for key in METRICS]
    file = io.StringIO()
    writer = csv.DictWriter(file, [*_RUN, *condition, *numbers, *intervals, *published])
    writer.writeheader()
    for row in rows:
        line = {key: getattr(row, key, None) for key in (*_RUN, *condition, *numbers)}
        for key in WITH_INTERVAL:
            line[f"{key}_low"], line[f"{key}_high"] = row.ci95.get(key) or (None, None)
        line |= {f"paper_{key}": getattr(row.paper, key, None) for key in METRICS}
        writer.writerow({key: for_csv(value) for key, value in line.items()} | {"status": "ok"})
    for run in failed:
        known = {"run": run.name, "status": run.content.status, "reason": run.content.why}
        line = {**known, "seed": run.content.seed}
        writer.writerow({key: for_csv(value) for key, value in line.items()})
    return file.getvalue()


def latex(tables: Iterable[Table]) -> str:
    r"""Tables as LaTeX; they need ``\usepackage{booktabs}``."""
    blocks = []
    for table in tables:
        width = len(table.columns())
        lines = [r"\begin{table}", rf"\caption{{{for_latex(table.title)}}}"]
        lines += [rf"\begin{{tabular}}{{l{'r' * width}}}", r"\toprule"]
        for row in table.header:
            spans = [rf"\multicolumn{{{span}}}{{c}}{{{for_latex(label)}}}" for label, span in row]
            lines.append(" & ".join(["", *spans]) + r" \\")
        lines.append(r"\midrule")
        for name, cells in table.lines:
            if not cells:
                lines.append(rf"\multicolumn{{{width + 1}}}{{l}}{{\emph{{{for_latex(name)}}}}} \\")
                continue
            lines.append(_tex_line(name, [for_latex(cell.value) for cell in cells]))
            # Below their number, so that eight columns fit a page.
            for below in ([cell.interval for cell in cells], [cell.paper for cell in cells]):
                if any(below):
                    lines.append(_tex_line("", [rf"{{\scriptsize {for_latex(b)}}}" for b in below]))
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _tex_line(name: str, texts: list[str]) -> str:
    return " & ".join([for_latex(name), *texts]) + r" \\"
