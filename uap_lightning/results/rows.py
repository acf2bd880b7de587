"""What a report is made of: the results below a folder, and their rows with what explains them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uap_lightning.core.errors import UapError
from uap_lightning.results.file import FILE, read_results

Row = dict[str, Any]

_NORMS = {"l2": "ℓ2", "linf": "ℓ∞"}
# The perturbations of the paper: its algorithm, and ours for the same ones in less time.
_PAPER_ATTACKS = ("deepfool_uap", "deepfool_uap_batched", "cosine_uap")
_PAPER_EPS = {"l2": 2000.0, "linf": 10.0}


@dataclass(frozen=True)
class Result:
    """A ``results.json``.

    Attributes:
        name: its folder below the folder that was searched.
        folder: where it lies.
        content: what it holds.
    """

    name: str
    folder: Path
    content: dict[str, Any]


def find_results(root: Path) -> list[Result]:
    """Every result below a folder; one that cannot be read stands as a failed run.

    Raises:
        UapError: there is none, or ``root`` is itself a file that cannot be read.
    """
    if root.is_file():
        return [Result(root.parent.resolve().name, root.parent, read_results(root))]
    files = sorted(root.rglob(FILE))
    if not files:
        raise UapError(
            f"results is {root}, which holds no {FILE}: give a run's folder or one above it; "
            "python -m uap_lightning.train makes them."
        )
    found = []
    for file in files:
        name = file.parent.relative_to(root).as_posix()
        name = root.resolve().name if name == "." else name
        try:
            content = read_results(file)
        except UapError as error:
            known = {"rows": [], "seconds": {}, "config": {"name": name}}
            content = {"status": "failed", "reason": str(error), **known}
        found.append(Result(name, file.parent, content))
    return found


def gather_rows(results: list[Result], published: list[Row]) -> list[Row]:
    """The rows of finished runs, each with what its run's config says of it and the paper's row.

    Added are ``run``, ``seed``, ``data``, ``attack``, ``eps`` (of the test norm), ``rectifier``,
    ``detector``, and ``paper``: the published row of the same condition or None.
    """
    rows = []
    for result in results:
        if result.content["status"] != "ok":
            continue
        config = result.content["config"]
        eps = _of(config, "norm", "eps")
        for row in result.content["rows"]:
            whole = {
                "run": result.name,
                "seed": result.content.get("seed"),
                "eps": eps if isinstance(eps, int | float) else None,
                **{part: _name(config, part) for part in ("data", "attack")},
                **{part: _name(config, part) for part in ("rectifier", "detector")},
                **row,
            }
            rows.append({**whole, "paper": published_row(whole, published)})
    return rows


def _of(config: Row, part: str, key: str) -> Any:
    """A key of a part of a config; None where a config written elsewhere has no such part."""
    found = config.get(part)
    return found.get(key) if isinstance(found, dict) else None


def _name(config: Row, part: str) -> str | None:
    name = _of(config, part, "name")
    return None if name is None else str(name)


def published_row(row: Row, published: list[Row]) -> Row | None:
    """The paper's row of the same networks, norms and protocol, for a PRN against its attack.

    The paper tests on ImageNet and counts against its labels: so must the row.
    """
    if not (
        row["data"] == "imagenet"
        and row.get("label_source") == "ground_truth"
        and str(row["rectifier"]).startswith("prn")
        and row["attack"] in _PAPER_ATTACKS
        and row["eps"] == _PAPER_EPS.get(row["test_norm"])
        and row.get("perturbation_network") == row["test_network"]
    ):
        return None
    keys = ("train_network", "test_network", "train_norm", "test_norm", "protocol")
    wanted = [str(row[key]).lower() for key in keys]
    for candidate in published:
        if [str(candidate.get(key)).lower() for key in keys] == wanted:
            return candidate
    return None


def norm_label(norm: str) -> str:
    """A norm as it is printed."""
    return _NORMS.get(norm, norm)


def defence_label(row: Row) -> str:
    """Rectifier and detector."""
    parts = [str(row[part]) for part in ("rectifier", "detector") if row.get(part)]
    return " + ".join(parts) or "unnamed defence"


def condition_label(row: Row) -> str:
    """Networks and norms: trained on, tested on where that differs."""
    trained = f"{row['train_network']} {norm_label(row['train_norm'])}"
    tested = f"{row['test_network']} {norm_label(row['test_norm'])}"
    return trained if trained == tested else f"{trained} → {tested}"
