"""What a report is made of: the results below a folder, and their rows with what explains them."""

import math
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import plain
from uap_lightning.perturbations.ball import scaled_ball
from uap_lightning.results.file import FILE, SCHEMA, RunResult, read_results
from uap_lightning.results.paper import PaperRow
from uap_lightning.results.row import Condition, Row

_NORMS = {"l2": "ℓ2", "linf": "ℓ∞"}
# The perturbations of the paper: its algorithm, and ours for the same ones in less time.
_PAPER_ATTACKS = ("deepfool_uap", "deepfool_uap_batched", "cosine_uap")
_PAPER_EPS = {"l2": 2000.0, "linf": 10.0}
_PAPER_CROP = 224
_P = {"2": 2.0, "2.0": 2.0, "inf": math.inf}


@dataclass(frozen=True)
class Result:
    """A run's result.

    Attributes:
        name: its folder below the folder that was searched.
        folder: where it lies.
        content: its ``results.json``.
    """

    name: str
    folder: Path
    content: RunResult


@dataclass(frozen=True, kw_only=True)
class ReportRow(Row):
    """A row with what its run says of it.

    Attributes:
        run: name of the run.
        seed: of the run.
        data: name of the photographs; None where the config does not say.
        crop: side of the test images; None where the config does not say.
        eps: radius of the test norm at that side, pixel units; None where the config does not say.
        paper: the published row beside it; None where there is none.
        same_as_paper: that row is of the same condition, not only of the same cell of a table.
    """

    run: str
    seed: int | None
    data: str | None
    crop: int | None
    eps: float | None
    paper: PaperRow | None = None
    same_as_paper: bool = False


def find_results(root: Path) -> list[Result]:
    """Every result below a folder; what cannot be read, a folder too, stands as a failed run.

    Raises:
        UapError: there is none, or ``root`` is itself a file that cannot be read.
    """
    if root.is_file():
        return [Result(_called(root.parent), root.parent, read_results(root))]
    closed: list[OSError] = []
    files = [
        Path(folder, FILE)
        for folder, folders, names in os.walk(root, onerror=closed.append)
        if FILE in (*folders, *names)
    ]
    found = [
        _failed(root, Path(error.filename), f"the folder cannot be read ({error.strerror})")
        for error in closed
    ]
    if not files and (not found or found[0].folder == root):
        why = f" ({closed[0].strerror})" if closed else ""
        raise UapError(
            f"results is {root}, which holds no {FILE}{why}: give a run's folder or one above it; "
            "python -m uap_lightning.train makes them."
        )
    for file in files:
        try:
            content = read_results(file)
            found.append(Result(_name_below(root, file.parent), file.parent, content))
        except UapError as error:
            found.append(_failed(root, file.parent, str(error)))
    return sorted(found, key=lambda result: result.folder)


def _failed(root: Path, folder: Path, reason: str) -> Result:
    name = _name_below(root, folder)
    content = RunResult(schema=SCHEMA, status="failed", reason=plain(reason), rows=[])
    return Result(name, folder, content)


def _name_below(root: Path, folder: Path) -> str:
    name = folder.relative_to(root).as_posix()
    return _called(root) if name == "." else plain(name)


def _called(folder: Path) -> str:
    """The name of a folder that may be given as a dot, and may be a link that leads to itself."""
    return plain(Path(os.path.abspath(folder)).name)  # noqa: PTH100


def gather_rows(
    results: list[Result], published: list[PaperRow], every_cell: bool = False
) -> list[ReportRow]:
    """The rows of finished runs, each with what its run says of it and the paper's row.

    Args:
        results: of the runs.
        published: the paper's rows.
        every_cell: the paper's row stands also beside a row of other photographs, another size,
            rectifier or attack, if networks, norms and protocol are the same.
    """
    rows = []
    for result in results:
        if result.content.status != "ok":
            continue
        crop = _number(result.content, "data", "crop")
        data = result.content.setting("data", "name")
        for row in result.content.rows:
            whole = ReportRow(
                **vars(row),
                run=result.name,
                seed=result.content.seed,
                data=None if data is None else plain(str(data)),
                crop=None if crop is None else int(crop),
                eps=_radius(result.content),
            )
            same = same_condition(whole)
            paper = published_row(whole, published) if same or every_cell else None
            rows.append(replace(whole, paper=paper, same_as_paper=same))
    return rows


def _number(content: RunResult, part: str, key: str) -> float | None:
    """A number of a config; None for anything else, which others may have written there."""
    value = content.setting(part, key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # An int may be larger than any float.
    return float(value) if abs(value) <= sys.float_info.max else None


def _radius(content: RunResult) -> float | None:
    """The radius of the ball that the run's perturbations lay in, at the size of its crops."""
    p = _P.get(str(content.setting("norm", "p")))
    eps, side = _number(content, "norm", "eps"), _number(content, "norm", "reference_size")
    crop = _number(content, "data", "crop")
    if p is None or eps is None or crop is None or crop < 1:
        return None
    try:
        return scaled_ball(p, eps, None if side is None else int(side), int(crop)).eps
    except UapError:
        return None


def same_condition(row: ReportRow) -> bool:
    """Whether a row is of a PRN against the paper's attack, as the paper tests it.

    The paper tests on crops of 224 of ImageNet and counts against its labels: so must the row.
    """
    return (
        row.data == "imagenet"
        and row.crop == _PAPER_CROP
        and row.label_source == "ground_truth"
        and (row.rectifier or "").startswith("prn")
        and row.attack in _PAPER_ATTACKS
        and row.eps == _PAPER_EPS.get(row.test_norm)
    )


def published_row(row: ReportRow, published: list[PaperRow]) -> PaperRow | None:
    """The paper's row of the same networks, norms and protocol."""
    if row.perturbation_network != row.test_network:
        return None
    keys = ("train_network", "test_network", "train_norm", "test_norm", "protocol")
    wanted = [getattr(row, key).lower() for key in keys]
    for candidate in published:
        if [getattr(candidate, key).lower() for key in keys] == wanted:
            return candidate
    return None


def norm_label(norm: str) -> str:
    """A norm as it is printed."""
    return _NORMS.get(norm, norm)


def defence_label(row: Condition) -> str:
    """Rectifier and detector."""
    return " + ".join(part for part in (row.rectifier, row.detector) if part) or "unnamed defence"


def condition_label(row: Condition) -> str:
    """Networks and norms: trained on, tested on where that differs."""
    trained = f"{row.train_network} {norm_label(row.train_norm)}"
    tested = f"{row.test_network} {norm_label(row.test_norm)}"
    return trained if trained == tested else f"{trained} → {tested}"
