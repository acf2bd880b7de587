"""``results.json``: what a run found, from which every table is rendered."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import FiniteFloat

from uap_lightning.core.storage import FirstSchema, read_as
from uap_lightning.results.row import Line, Row

SCHEMA: Final = 1
FILE = "results.json"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a ``results.json`` holds.

    Attributes:
        schema: version of the format.
        run_id: of the run, the same after an interruption.
        status: of the run.
        reason: why it failed.
        rows: one for each test condition.
        seed: of everything random.
        seconds: of each stage.
        config: the resolved config.
        versions: of the libraries.
        commit: of the checkout, where there is one.
        digests: of bank and defence, and of what joined the bank, if anything did.
        bank: name of the bank's folder that a crafting filled.
    """

    schema: FirstSchema
    run_id: Line | None = None
    status: Literal["ok", "failed", "running"]
    reason: Line | None = None
    rows: list[Row]
    seed: int | None = None
    seconds: dict[Line, FiniteFloat] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[Line, Line] = field(default_factory=dict)
    commit: Line | None = None
    digests: dict[Line, Line] = field(default_factory=dict)
    bank: Line | None = None

    @property
    def why(self) -> str:
        """Why there is no result."""
        return self.reason or ("it did not end" if self.status == "running" else "no reason given")

    def setting(self, part: str, key: str) -> Any:
        """A key of a part of the config; None where a config written elsewhere has no such part."""
        found = self.config.get(part)
        return found.get(key) if isinstance(found, dict) else None


def read_results(path: Path) -> RunResult:
    """Read and validate a ``results.json``.

    Raises:
        UapError: missing, not JSON, of another schema, or with rows or other parts that are not
            what a run writes; the first is named.
    """
    return read_as(
        path,
        RunResult,
        f"a {FILE} of schema {SCHEMA} as uap_lightning writes it; put the original back, or remove "
        "the file and run again",
    )
