"""Tables in the paper's layout: same and different norm (1-3), cross-network (4 and 5)."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from uap_lightning.results.row import Row
from uap_lightning.results.rows import ReportRow, defence_label, norm_label

T = TypeVar("T")

# Row title, key in a result row: the paper's four metrics with their floor, and what explains them.
LINES = (
    ("PRN-gain", "prn_gain"),
    ("PRN-restoration", "prn_restoration"),
    ("Detection rate", "detection_rate"),
    ("Defense rate", "defense_rate"),
    ("Defense rate, guard with memory", "stream_rate"),
    ("The same, after 16 attacked images of each", "stream_rate_16"),
    ("Undefended rate (floor)", "undefended_rate"),
    ("Fooling ratio", "fooling_ratio"),
    ("Accuracy, clean", "acc_clean"),
    ("Accuracy, clean, through the defence", "acc_defended_clean"),
    ("Accuracy, perturbed", "acc_perturbed"),
    ("Accuracy, perturbed, rectified", "acc_rectified_perturbed"),
    ("Test images", "n_images"),
    ("Test photographs", "n_photographs"),
)
# What only some runs measure.
_OPTIONAL = ("stream_rate", "stream_rate_16")
METRICS = tuple(key for _, key in LINES[:4])
_CROSS = ("prn_restoration", "detection_rate", "defense_rate", "undefended_rate")
# The floor of these two is what the network gets without a defence.
_WITH_FLOOR = ("prn_restoration", "defense_rate")


@dataclass(frozen=True)
class Cell:
    """A number with what belongs beside it; each part is text and may be empty."""

    value: str
    interval: str = ""
    wider: str = ""
    floor: str = ""
    paper: str = ""

    def text(self, floor: bool = False) -> str:
        """Number, intervals, floor where asked for, and the paper's number on one line."""
        number = " ".join(filter(None, (self.value, self.interval, self.wider)))
        return "; ".join(filter(None, (number, self.floor if floor else "", self.paper)))


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it shows.
        header: rows of labels over the columns, each with the columns it spans.
        lines: label and one cell a column; a line without cells is a heading within the table.
    """

    title: str
    header: list[list[tuple[str, int]]]
    lines: list[tuple[str, list[Cell]]]

    @property
    def metric(self) -> str:
        """What stands over the names of the lines, and says what the brackets are."""
        return heading(cell for _, cells in self.lines for cell in cells)

    def columns(self) -> list[str]:
        """The header's labels over each column, on one line."""
        spread = [[label for label, span in row for _ in range(span)] for row in self.header]
        return [", ".join(labels) for labels in zip(*spread, strict=True)]


def heading(cells: Iterable[Cell]) -> str:
    """What stands over the names of metrics, and says what the brackets in ``cells`` are."""
    if any(cell.wider for cell in cells):
        return "Metric [95 % interval over photographs] (over photographs and perturbations)"
    return "Metric [95 % interval]"


def cell(row: Row | None, key: str) -> Cell:
    """One number of a row: percent with one decimal, counts as they are."""
    if row is None:
        return Cell("-")
    value: int | float | None = getattr(row, key)
    if value is None:
        return Cell("n/a")
    if isinstance(value, int):
        return Cell(str(value))
    low_high = row.ci95.get(key)
    wider = (row.ci95_perturbations or {}).get(key)
    floor = row.undefended_rate if key in _WITH_FLOOR else None
    paper = row.paper if isinstance(row, ReportRow) else None
    published: float | None = getattr(paper, key, None)
    return Cell(
        value=f"{value:.1f} %",
        interval=f"[{low_high[0]:.1f}, {low_high[1]:.1f}]" if low_high else "",
        wider=f"({wider[0]:.1f}, {wider[1]:.1f})" if wider else "",
        floor="" if floor is None else f"floor {floor:.1f}",
        paper="" if published is None else _beside(value, published, row),
    )


def lines_of(rows: Sequence[Row]) -> list[tuple[str, list[Cell]]]:
    """Every line of ``LINES`` that any of the rows has a number for."""
    return [
        (name, [cell(row, key) for row in rows])
        for name, key in LINES
        if key not in _OPTIONAL or any(getattr(row, key) is not None for row in rows)
    ]


def _beside(value: float, published: float, row: Row) -> str:
    """The paper's number, and the difference where it is of the same condition."""
    same = isinstance(row, ReportRow) and row.same_as_paper
    return f"paper {published:.1f}" + (f" ({value - published:+.1f})" if same else "")


def norm_tables(rows: Iterable[ReportRow]) -> list[Table]:
    """Tables 1-3: one for each network and defence, same norm and different norm side by side."""
    tables = []
    own = [row for row in rows if not _crosses(row)]
    for group, members in _grouped(own, lambda row: (row.test_network, *_defence(row))):
        columns = sorted(members, key=_place)
        labels = [_labels(row) for row in columns]
        for key in ("attack", "run"):
            # What tells repeated columns apart stands below them.
            below = [str(getattr(row, key)) for row in columns]
            if max(Counter(labels).values()) > 1 and len(set(below)) > 1:
                labels = [(*above, name) for above, name in zip(labels, below, strict=True)]
        lines = lines_of(columns)
        tables.append(Table(f"{group[0]}: {defence_title(columns[0])}", _spans(labels), lines))
    return tables


def cross_tables(rows: Iterable[ReportRow]) -> list[Table]:
    """Tables 4 and 5: trained on the network of the column, tested on the network of the line."""
    rows = list(rows)
    seen: Counter[tuple[str, ...]] = Counter()
    numbered = []
    for row in rows:
        # A condition that several runs measured fills as many tables.
        condition = (*_cross_group(row), row.test_network, row.train_network)
        seen[condition] += 1
        numbered.append((row, seen[condition]))
    tables = []
    groups = _grouped(numbered, lambda pair: (*_cross_group(pair[0]), str(pair[1])))
    for _, pairs in groups:
        members = [row for row, _ in pairs]
        if not any(_crosses(row) for row in members):
            continue
        at = {(row.test_network, row.train_network): row for row in members}
        trained = sorted({row.train_network for row in members})
        tested = sorted({row.test_network for row in members})
        lines: list[tuple[str, list[Cell]]] = []
        for name, key in [line for line in LINES if line[1] in _CROSS]:
            lines.append((name, []))
            lines += [(test, [cell(at.get((test, t)), key) for t in trained]) for test in tested]
        first = members[0]
        title = f"Cross-network, {_norms(first)}, {_protocol(first)}: {defence_title(first)}"
        tables.append(Table(title, _spans([("Trained on", name) for name in trained]), lines))
    return tables


def _crosses(row: Row) -> bool:
    return row.train_network != row.test_network


def _defence(row: ReportRow) -> tuple[str, ...]:
    parts = (row.rectifier, row.detector, row.data, row.seed, row.label_source)
    return tuple(str(part) for part in parts)


def defence_title(row: ReportRow) -> str:
    """Rectifier, detector, data and seed; what was counted against if not true labels."""
    predicted = row.label_source == "prediction"
    against = ", counted against the network's own predictions" if predicted else ""
    return f"{defence_label(row)} on data={row.data}, seed {row.seed}{against}"


def _cross_group(row: ReportRow) -> tuple[str, ...]:
    others = (row.train_norm, row.test_norm, str(row.eps), row.protocol)
    return (*_defence(row), *others, _source(row))


def _source(row: Row) -> str:
    """Where the test perturbations come from, if not from the tested network."""
    return "" if row.perturbation_network == row.test_network else row.perturbation_network


def _protocol(row: Row) -> str:
    return f"Prot-{row.protocol.upper()}"


def _norms(row: ReportRow) -> str:
    train, test = norm_label(row.train_norm), norm_label(row.test_norm)
    radius = "" if row.eps is None else f", ξ={row.eps:g}"
    return f"{test}{radius}" if train == test else f"{train} → {test}{radius}"


def _labels(row: ReportRow) -> tuple[str, ...]:
    same = row.train_norm == row.test_norm
    source = _source(row)
    perturbed = f"{_norms(row)}, perturbations of {source}" if source else _norms(row)
    return ("Same norm" if same else "Different norm", perturbed, _protocol(row))


def _place(row: ReportRow) -> tuple[object, ...]:
    different = row.train_norm != row.test_norm
    repeated = (str(row.attack), row.run)
    return (different, row.test_norm, row.eps or 0.0, _source(row), row.protocol, *repeated)


def _grouped(
    items: Iterable[T], key: Callable[[T], tuple[str, ...]]
) -> list[tuple[tuple[str, ...], list[T]]]:
    return [(group, list(members)) for group, members in groupby(sorted(items, key=key), key)]


def _spans(columns: list[tuple[str, ...]]) -> list[list[tuple[str, int]]]:
    """Header rows: neighbours with the same label, and the same labels above, become one."""
    rows = []
    for level in range(len(columns[0])):
        above = [column[: level + 1] for column in columns]
        rows.append([(labels[-1], len(list(same))) for labels, same in groupby(above)])
    return rows
