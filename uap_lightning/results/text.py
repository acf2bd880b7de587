"""A report as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Iterable

from uap_lightning.results.metrics import WITH_INTERVAL
from uap_lightning.results.rows import Result, Row
from uap_lightning.results.tables import METRICS, Table

_CONDITION = (
    *("run", "status", "reason", "seed", "data", "attack", "rectifier", "detector"),
    *("train_network", "train_norm", "test_network", "perturbation_network", "test_norm", "eps"),
    *("protocol", "label_source"),
)
_TEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "ℓ2": r"$\ell_2$",
    "ℓ∞": r"$\ell_\infty$",
    "ξ": r"$\xi$",
    "→": r"$\to$",
}


def markdown(tables: Iterable[Table], failed: Iterable[Result]) -> str:
    """Tables as GitHub Markdown, with their title where there are several; then failed runs."""
    tables = list(tables)
    blocks = []
    for table in tables:
        columns = table.columns()
        lines = [f"## {table.title}", ""] if len(tables) > 1 else []
        lines += [_line("Metric [95 % interval]", columns), f"| --- |{' ---: |' * len(columns)}"]
        for name, cells in table.lines:
            texts = [cell.text() for cell in cells] or [""] * len(columns)
            lines.append(_line(name if cells else f"**{name}**", texts))
        blocks.append("\n".join(lines))
    failures = [
        f"- {result.name}: {result.content['status']}: {reason_of(result)}" for result in failed
    ]
    if failures:
        blocks.append("\n".join(["## Runs without a result", "", *failures]))
    return "\n\n".join(blocks) + "\n"


def _line(name: str, texts: list[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in (name, *texts)) + " |"


def reason_of(result: Result) -> str:
    """Why a run has no result, in one line."""
    said = " ".join(str(result.content.get("reason") or "").split())
    if said:
        return said
    return "it did not end" if result.content["status"] == "running" else "no reason given"


def as_csv(rows: Iterable[Row], failed: Iterable[Result]) -> str:
    """One line a row with everything it holds, and one line a failed run."""
    rows = [{"status": "ok", **row} for row in rows]
    numbers = dict.fromkeys(key for row in rows for key in row if key not in _CONDITION)
    plain = [key for key in numbers if key not in ("ci95", "paper")]
    intervals = [f"{key}_{end}" for key in WITH_INTERVAL for end in ("low", "high")]
    published = [f"paper_{key}" for key in METRICS]
    file = io.StringIO()
    writer = csv.DictWriter(file, [*_CONDITION, *plain, *intervals, *published], restval="")
    writer.writeheader()
    for row in rows:
        flat = {key: value for key, value in row.items() if key not in ("ci95", "paper")}
        for key, interval in (row.get("ci95") or {}).items():
            if interval and key in WITH_INTERVAL:
                flat[f"{key}_low"], flat[f"{key}_high"] = interval
        for key in METRICS:
            flat[f"paper_{key}"] = (row["paper"] or {}).get(key)
        writer.writerow(flat)
    for result in failed:
        content = result.content
        known = {"run": result.name, "status": content["status"], "reason": reason_of(result)}
        writer.writerow({**known, "seed": content.get("seed")})
    return file.getvalue()


def latex(tables: Iterable[Table]) -> str:
    r"""Tables as LaTeX; they need ``\usepackage{booktabs}``."""
    blocks = []
    for table in tables:
        width = len(table.columns())
        lines = [r"\begin{table}", rf"\caption{{{tex(table.title)}}}"]
        lines += [rf"\begin{{tabular}}{{l{'r' * width}}}", r"\toprule"]
        for row in table.header:
            spans = [rf"\multicolumn{{{span}}}{{c}}{{{tex(label)}}}" for label, span in row]
            lines.append(" & ".join(["", *spans]) + r" \\")
        lines.append(r"\midrule")
        for name, cells in table.lines:
            if not cells:
                lines.append(rf"\multicolumn{{{width + 1}}}{{l}}{{\emph{{{tex(name)}}}}} \\")
                continue
            lines.append(_tex_line(name, [tex(cell.value) for cell in cells]))
            # Below their number, so that eight columns fit a page.
            for below in ([cell.interval for cell in cells], [cell.paper for cell in cells]):
                if any(below):
                    lines.append(_tex_line("", [rf"{{\scriptsize {tex(b)}}}" for b in below]))
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _tex_line(name: str, texts: list[str]) -> str:
    return " & ".join([tex(name), *texts]) + r" \\"


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    pieces = []
    while text:
        found = next((mark for mark in _TEX if text.startswith(mark)), text[0])
        pieces.append(_TEX.get(found, found))
        text = text[len(found) :]
    return "".join(pieces)
