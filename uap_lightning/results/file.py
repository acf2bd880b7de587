"""``results.json``: what a run found, from which every table is rendered."""

from pathlib import Path
from typing import Any

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_json
from uap_lightning.results.metrics import WITH_INTERVAL

SCHEMA = 1
FILE = "results.json"
# What a row says of its condition, what it may say, and how the keys of its numbers begin.
_CONDITION = ("train_network", "train_norm", "test_network", "test_norm", "protocol")
_TEXTS = ("run", "perturbation_network", "attack", "rectifier", "detector", "label_source")
_NUMBERS = (*WITH_INTERVAL, "acc_", "eps", "fooling_ratio", "n_")


def read_results(path: Path) -> dict[str, Any]:
    """Read and validate a ``results.json``.

    Raises:
        UapError: missing, not JSON, of another schema, or with rows or other parts that are not
            what a run writes.
    """
    content = read_json(path, "a results.json written by uap_lightning")
    if content.get("schema") != SCHEMA:
        raise UapError(
            f"{path} has schema {content.get('schema')}: expected {SCHEMA}; use the version of "
            "uap-lightning that wrote it."
        )
    if content.get("status") not in ("ok", "failed", "running"):
        raise UapError(
            f"{path} has status {content.get('status')}: expected ok, failed or running."
        )
    rows = content.get("rows")
    if not isinstance(rows, list):
        raise UapError(f"{path} has no rows: expected a list of results.")
    for number, row in enumerate(rows):
        odd = _odd_key(row)
        if odd is not None:
            raise UapError(
                f"{path} has a row {number} whose {odd} is not what a run writes: put the "
                "original back, or remove the file and run again."
            )
    for part in ("config", "seconds", "digests", "versions"):
        if not isinstance(content.setdefault(part, {}), dict):
            raise UapError(
                f"{path} has a {part} that is {content[part]}: expected a group of keys; put the "
                "original back, or remove the file and run again."
            )
    if not all(_is_number(value) for value in content["seconds"].values()):  # type: ignore[attr-defined]
        raise UapError(
            f"{path} has seconds {content['seconds']}: expected a number a stage; put the "
            "original back, or remove the file and run again."
        )
    return content


def _odd_key(row: Any) -> str | None:
    """The first key of a row that is missing or of another type; None where the row is sound."""
    if not isinstance(row, dict):
        return "content"
    for key in _CONDITION:
        if not isinstance(row.get(key), str):
            return key
    for name, value in row.items():
        if name.startswith(_NUMBERS) and not (value is None or _is_number(value)):
            return str(name)
        if name in _TEXTS and not (value is None or isinstance(value, str)):
            return str(name)
    intervals = row.get("ci95") or {}
    if not isinstance(intervals, dict):
        return "ci95"
    for interval in intervals.values():
        ends = [] if interval is None else interval
        if not (isinstance(ends, list) and len(ends) in (0, 2) and all(map(_is_number, ends))):
            return "ci95"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
