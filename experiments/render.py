"""Finished runs as Markdown, CSV and a picture, beside the paper's numbers."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.runs import Job, require_results
from uap_lightning.core.storage import write_atomically
from uap_lightning.results.escape import for_csv, for_markdown
from uap_lightning.results.file import FILE, read_results
from uap_lightning.results.paper import read_paper
from uap_lightning.results.rows import ReportRow, Result, gather_rows, norm_label
from uap_lightning.results.tables import Table
from uap_lightning.results.text import as_csv, markdown

Tables = Callable[[Iterable[ReportRow]], list[Table]]


def write_tables(jobs: Sequence[Job], tables: Tables, folder: Path, name: str) -> None:
    """Write ``name.md``, ``name.csv`` and ``name.png`` of the jobs' results.

    Raises:
        SystemExit: a job has no result.
    """
    results = results_of(jobs)
    rows = gather_rows(results, read_paper(None), every_cell=True)
    path = folder / name
    text = f"{conditions(results)}\n\n{markdown(tables(rows), [], floors=True)}"
    write_atomically(path.with_suffix(".md"), text.encode())
    write_atomically(path.with_suffix(".csv"), as_csv(rows, []).encode())
    write_figure(defense_rates(rows), path.with_suffix(".png"))


def results_of(jobs: Sequence[Job]) -> list[Result]:
    """The results of finished jobs.

    Raises:
        SystemExit: a job has no result.
    """
    require_results(jobs)
    return [Result(job.folder.name, job.folder, read_results(job.folder / FILE)) for job in jobs]


def conditions(results: Sequence[Result]) -> str:
    """What the runs were made with, and what the paper's numbers beside them were."""
    said: dict[str, None] = {}
    for result in results:
        setting = result.content.setting
        bank = "{} + {} perturbations".format(setting("bank", "train"), setting("bank", "test"))
        parts = (f"data={setting('data', 'name')}", f"crops of {setting('data', 'crop')}", bank)
        networks = {row.test_network for row in result.content.rows}
        for network in networks:
            said[for_markdown(f"{network}: {', '.join(parts)}")] = None
    ours = "".join(f"\n- {line}" for line in sorted(said))
    return (
        "“floor” is the rate without a defence. “paper” is the paper's number in the same cell: "
        "ImageNet's 10,000 test images, crops of 224, 20 + 5 perturbations; a difference stands "
        f"beside it only where ours is of the same condition. Ours:\n{ours}"
    )


def defense_rates(rows: Sequence[ReportRow]) -> Figure:
    """Defense rates of protocol A with their intervals, floors and the paper's numbers."""
    shown = [
        (row, row.defense_rate, row.undefended_rate or 0.0)
        for row in reversed(rows)
        if row.protocol == "a" and row.defense_rate is not None
    ]
    figure = Figure(figsize=(8, 1.6 + 0.4 * len(shown)), layout="constrained")
    axes = figure.subplots()
    marks: list[Any] = []
    for place, (row, rate, undefended) in enumerate(shown):
        low, high = row.ci95.get("defense_rate") or (rate, rate)
        bar = axes.barh(place, rate, height=0.6, color="#4878a8", label="defended")
        (interval,) = axes.plot([low, high], [place] * 2, "k-", linewidth=1, label="95 % interval")
        (floor,) = axes.plot(
            [undefended] * 2,
            [place - 0.3, place + 0.3],
            color="#d0502a",
            linewidth=2,
            label="no defence",
        )
        published = row.paper and row.paper.defense_rate
        paper = axes.plot(published or [], [place] if published else [], "kD", label="the paper")
        if place == 0:
            marks = [bar, interval, floor, *paper]
    labels = [
        f"{row.train_network} {norm_label(row.train_norm)} → "
        f"{row.test_network} {norm_label(row.test_norm)}"
        for row, _, _ in shown
    ]
    axes.set_yticks(range(len(shown)), labels)
    axes.set_xlim(0, 105)
    axes.set_xlabel("defense rate, %, Prot-A")
    figure.legend(handles=marks, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def write_records(records: Sequence[Any], path: Path) -> None:
    """Write dataclasses of one kind as CSV, one line each."""
    file = StringIO()
    writer = csv.DictWriter(file, [field.name for field in fields(records[0])])
    writer.writeheader()
    for record in records:
        writer.writerow({key: for_csv(value) for key, value in asdict(record).items()})
    write_atomically(path, file.getvalue().encode())


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_atomically(path, content.getvalue())
