"""What ``predict`` has written of an output that is not whole: rows that a later run goes on from.

``OUTPUT.part`` holds JSON Lines: a digest of the settings, then a row for each file in order, with
the file's size and time. It becomes the output when all rows are there. One process writes it.
"""

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, locked, make_folder
from uap_lightning.results.escape import begins_formula

Row = dict[str, str | int | float | bool | None]
COLUMNS = ("file", "label", "class", "confidence", "perturbed", "score", "error")


@contextmanager
def open_part(output: Path) -> Iterator[Path]:
    """The unfinished rows of ``output``, for this process alone among those of this machine's user.

    The lock stays, as :func:`~uap_lightning.core.storage.locked` needs it, so it lies in the
    temporary folder, named by a digest of where the output is.

    Raises:
        UapError: another process writes this output, or it cannot be written.
    """
    part = output.with_name(f"{output.name}.part")
    make_folder(output.parent)
    try:
        with locked(_lock_of(output), wait=False) as held:
            if not held:
                raise UapError(
                    f"another process writes {output}: wait for it, or give another output."
                )
            yield part
    except OSError as error:
        raise UapError(
            f"{output} could not be written ({error.strerror}): free some space or choose "
            "another output, then run the same command again."
        ) from error


def _lock_of(output: Path) -> Path:
    """The same for every name of an output; of each user, who may not open another's."""
    user = getattr(os, "getuid", int)()
    name = f"uap_lightning-{user}-{digest_of(os.fsencode(output.resolve()).hex())}.lock"
    return Path(tempfile.gettempdir(), name)


def keep_rows(part: Path, settings: str, files: Iterator[Path], parent: Path, batch: int) -> int:
    """Cut a part after the last row that still holds, at the end of a batch; returns their number.

    A row holds while the settings are the same and its file is the next one of the folder, as large
    and as old as it was. What is computed next is then batched as if nothing had been interrupted.

    Args:
        part: is begun where it is missing or of other settings.
        settings: a digest of all that the rows depend on.
        files: of the folder, in order.
        parent: the folder that names are relative to.
        batch: images a forward pass.
    """
    header = json.dumps({"settings": settings}).encode() + b"\n"
    kept, end = 0, len(header)
    with part.open("a+b") as file:
        file.seek(0)
        if file.readline() != header:
            file.truncate(0)
            file.write(header)
        for number, (line, path) in enumerate(zip(file, files, strict=False), start=1):
            row = _parsed(line)
            if (row.get("file"), row.get("mark")) != (name_of(path, parent), _mark(path)):
                break
            if number % batch == 0:
                kept, end = number, file.tell()
        file.truncate(end)
    return kept


def _parsed(line: bytes) -> dict[str, object]:
    """A row of a part; none where the line is torn or damaged."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) and row.keys() == {"mark", *COLUMNS} else {}


def name_of(path: Path, parent: Path) -> str:
    """What a file is called in a row: its path below the folder, with ``/`` on every system."""
    return path.relative_to(parent).as_posix()


def _mark(path: Path) -> str | None:
    """Tells that a file was replaced; None for a link to nothing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{status.st_size}-{status.st_mtime_ns}"


def append(file: IO[str], row: Row, parent: Path) -> None:
    """Add a row to a part that is open for appending."""
    mark = _mark(parent / str(row["file"]))
    file.write(json.dumps({"mark": mark, **row}, allow_nan=False) + "\n")


def publish(part: Path, output: Path) -> int:
    """Make a part that has all rows the output; returns how many of them have an error."""
    temporary = output.with_name(f"{part.name}.tmp")
    failed = 0
    try:
        # Names of files need not be valid text: their bytes are kept.
        with (
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
            part.open() as lines,
        ):
            write = _writer(file, output.suffix)
            for line in islice(lines, 1, None):
                row = json.loads(line)
                del row["mark"]
                failed += row["error"] is not None
                write(row)
        temporary.replace(output)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    part.unlink()
    return failed


def _writer(file: IO[str], suffix: str) -> Callable[[Row], object]:
    """Writes rows as JSON Lines, or as CSV: an empty cell for none, and no cell a formula."""
    if suffix == ".jsonl":
        return lambda row: file.write(json.dumps(row, allow_nan=False) + "\n")
    table = csv.DictWriter(file, COLUMNS)
    table.writeheader()

    def write(row: Row) -> None:
        table.writerow({key: cell(value) for key, value in row.items()})

    return write


def cell(value: object) -> object:
    """Text from outside with an apostrophe where a spreadsheet would compute it."""
    return f"'{value}" if isinstance(value, str) and begins_formula(value) else value
