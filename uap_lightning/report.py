"""Tables from ``results.json`` files: ``python -m uap_lightning.report results=outputs``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from uap_lightning.check import check
from uap_lightning.errors import UapError
from uap_lightning.launch import launch
from uap_lightning.results import FILE, read_results
from uap_lightning.storage import write_atomically

# Row title, key in a result row: the paper's four metrics with their floor, and what explains them.
LINES = (
    ("PRN-gain", "prn_gain"),
    ("PRN-restoration", "prn_restoration"),
    ("Detection rate", "detection_rate"),
    ("Defense rate", "defense_rate"),
    ("Undefended rate (floor)", "undefended_rate"),
    ("Fooling ratio", "fooling_ratio"),
    ("Accuracy, clean", "acc_clean"),
    ("Accuracy, clean, through the defence", "acc_defended_clean"),
    ("Accuracy, perturbed", "acc_perturbed"),
    ("Accuracy, perturbed, rectified", "acc_rectified_perturbed"),
    ("Test images", "n_images"),
    ("Test photographs", "n_photographs"),
)


def report(cfg: DictConfig) -> None:
    """Render every result below a folder as one table, on the screen and as Markdown."""
    check(cfg)
    root = Path(cfg.results)
    files = [root] if root.is_file() else sorted(root.rglob(FILE))
    if not files:
        raise UapError(
            f"results is {root}, which holds no {FILE}: give a run's folder or one above it; "
            "python -m uap_lightning.train makes them."
        )
    results = [read_results(file) for file in files]
    show(results)
    if cfg.output is not None:
        write_atomically(Path(cfg.output), markdown(results).encode())


def columns(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all results, one column of the table each."""
    return [row for result in results for row in result["rows"]]


def title(row: Mapping[str, Any]) -> str:
    """What a column is: networks, norms, protocol."""
    trained = f"{row['train_network']} {row['train_norm']}"
    tested = f"{row['test_network']} {row['test_norm']}"
    conditions = trained if trained == tested else f"{trained} → {tested}"
    return f"{conditions}, Prot-{row['protocol'].upper()}"


def cell(row: Mapping[str, Any], key: str) -> str:
    """One number: percent with its interval where there is one, counts as they are."""
    value = row.get(key)
    if value is None:
        return "n/a"
    if isinstance(value, int):
        return str(value)
    interval = row.get("ci95", {}).get(key)
    spread = f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else ""
    return f"{value:.1f} %{spread}"


def show(results: Sequence[Mapping[str, Any]]) -> None:
    """Print the table, the failed runs and the seconds a stage, on standard output."""
    console = Console(width=None if Console().is_terminal else 120)
    table = Table(title="Defence against universal adversarial perturbations", title_justify="left")
    table.add_column("Metric [95 % interval]")
    rows = columns(results)
    for row in rows:
        table.add_column(title(row), justify="right")
    for name, key in LINES:
        table.add_row(name, *(cell(row, key) for row in rows))
    if rows:
        console.print(table)
    for result in results:
        if result["status"] != "ok":
            reason = result["reason"] or "no reason given"
            console.print(f"{result['config']['name']}: {result['status']}: {reason}")
    if len(results) == 1:
        seconds = {stage: f"{value:.0f} s" for stage, value in results[0]["seconds"].items()}
        console.print(", ".join(f"{stage} {value}" for stage, value in seconds.items()))


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The table as GitHub Markdown."""
    rows = columns(results)
    lines = [
        f"| Metric [95 % interval] | {' | '.join(title(row) for row in rows)} |",
        f"| --- |{' ---: |' * len(rows)}",
    ]
    lines += [f"| {name} | {' | '.join(cell(row, key) for row in rows)} |" for name, key in LINES]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Console script ``uap-report``."""
    launch(report, "report")


if __name__ == "__main__":
    main()
