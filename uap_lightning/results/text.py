"""A report as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Iterable
from dataclasses import fields

from uap_lightning.results.escape import for_csv, for_latex, for_markdown
from uap_lightning.results.metrics import STREAMED, WITH_INTERVAL
from uap_lightning.results.row import Condition, Numbers
from uap_lightning.results.rows import ReportRow, Result
from uap_lightning.results.tables import METRICS, Table

# Intervals, by what their columns are called.
_KINDS = {"": "ci95", "perturbations_": "ci95_perturbations"}
_RUN = ("run", "status", "reason", "seed", "data", "eps")


def markdown(tables: Iterable[Table], failed: Iterable[Result], floors: bool = False) -> str:
    """Tables as GitHub Markdown, with their title where there are several; then failed runs.

    ``floors`` puts the floor into each cell that has one.
    """
    tables = list(tables)
    blocks = []
    for table in tables:
        columns = [for_markdown(column) for column in table.columns()]
        lines = [f"## {for_markdown(table.title)}", ""] if len(tables) > 1 else []
        lines += [_line(table.metric, columns), f"| --- |{' ---: |' * len(columns)}"]
        for name, cells in table.lines:
            texts = [cell.text(floors) for cell in cells] or [""] * len(columns)
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
    numbers = [field.name for field in fields(Numbers) if field.name not in _KINDS.values()]
    ends = [(key, end) for key in (*WITH_INTERVAL, *STREAMED) for end in ("low", "high")]
    intervals = [f"{key}_{kind}{end}" for kind in _KINDS for key, end in ends]
    published = [f"paper_{key}" for key in METRICS]
    file = io.StringIO()
    writer = csv.DictWriter(file, [*_RUN, *condition, *numbers, *intervals, *published])
    writer.writeheader()
    for row in rows:
        line = {key: getattr(row, key, None) for key in (*_RUN, *condition, *numbers)}
        for kind, name in _KINDS.items():
            known = getattr(row, name) or {}
            for key in (*WITH_INTERVAL, *STREAMED):
                low, high = known.get(key) or (None, None)
                line |= {f"{key}_{kind}low": low, f"{key}_{kind}high": high}
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
            for part in ("interval", "wider", "paper"):
                below = [getattr(cell, part) for cell in cells]
                if any(below):
                    lines.append(_tex_line("", [rf"{{\scriptsize {for_latex(b)}}}" for b in below]))
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _tex_line(name: str, texts: list[str]) -> str:
    return " & ".join([for_latex(name), *texts]) + r" \\"
