"""What the page draws: bars with intervals and floors, and the matrix of unseen perturbations."""

from collections.abc import Iterable
from dataclasses import dataclass

from uap_lightning.results.rows import ReportRow, condition_label, defence_label, norm_label
from uap_lightning.results.tables import defence_title

_CHARTS = (("Defense rate", "defense_rate"), ("Detection rate", "detection_rate"))


@dataclass(frozen=True)
class Bar:
    """A bar from 0 to 100 percent, with its interval and its floor where there are any."""

    label: str
    note: str
    value: float
    interval: tuple[float, float] | None
    floor: float | None


@dataclass(frozen=True)
class Chart:
    """Bars of one metric under one protocol, the longest first."""

    title: str
    bars: list[Bar]


@dataclass(frozen=True)
class Matrix:
    """Defense rates: defences down, test perturbations across; None where nothing was run."""

    title: str
    columns: list[str]
    lines: list[tuple[str, list[ReportRow | None]]]


def bar_charts(rows: Iterable[ReportRow]) -> list[Chart]:
    """One chart for each protocol and each of defense rate and detection rate."""
    rows = list(rows)
    charts = []
    for protocol in sorted({row.protocol for row in rows}):
        for name, key in _CHARTS:
            bars = [bar for row in rows if row.protocol == protocol for bar in _bars(row, key)]
            if bars:
                bars.sort(key=lambda bar: -bar.value)
                charts.append(Chart(f"{name}, Prot-{protocol.upper()}", bars))
    return charts


def unseen_matrices(rows: Iterable[ReportRow]) -> list[Matrix]:
    """One matrix a protocol: defences under the perturbations of several networks or attacks."""
    rows = list(rows)
    matrices = []
    for protocol in sorted({row.protocol for row in rows}):
        at = {
            (_defence(row), _perturbations(row)): row
            for row in rows
            if row.protocol == protocol and row.defense_rate is not None
        }
        sources: dict[str, set[tuple[str, str | None]]] = {}
        for (defence, _), row in at.items():
            sources.setdefault(defence, set()).add((row.perturbation_network, row.attack))
        defences = sorted(defence for defence, known in sources.items() if len(known) > 1)
        columns = sorted({perturbations for defence, perturbations in at if defence in defences})
        if not defences:
            continue
        lines = [
            (defence, [at.get((defence, column)) for column in columns]) for defence in defences
        ]
        matrices.append(Matrix(f"Unseen perturbations, Prot-{protocol.upper()}", columns, lines))
    return matrices


def _bars(row: ReportRow, key: str) -> list[Bar]:
    """The bar of a rate, where it was measured."""
    value: float | None = getattr(row, key)
    if value is None:
        return []
    return [
        Bar(
            label=condition_label(row),
            note=f"{defence_label(row)} · {row.run}",
            value=value,
            interval=row.ci95.get(key),
            floor=row.undefended_rate if key == "defense_rate" else None,
        )
    ]


def _defence(row: ReportRow) -> str:
    trained = f"{row.train_network} {norm_label(row.train_norm)}, {defence_title(row)}"
    if row.train_network == row.test_network:
        return trained
    return f"{trained}, on {row.test_network}"


def _perturbations(row: ReportRow) -> str:
    radius = "" if row.eps is None else f"ξ={row.eps:g}"
    parts = (row.perturbation_network, norm_label(row.test_norm), radius, row.attack)
    return " ".join(part for part in parts if part)
