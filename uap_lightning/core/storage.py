"""Files that are either whole or absent: atomic writes, digests, locks, checked safetensors."""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import safetensors.torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from uap_lightning.core.errors import UapError

T = TypeVar("T")


def make_folder(folder: Path) -> Path:
    """Create ``folder`` and its parents.

    Raises:
        UapError: the folder cannot be created, for example for lack of permission.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UapError(
            f"the folder {folder} cannot be created ({error.strerror}): "
            "choose a place you may write to (paths.output_dir, paths.bank_dir, paths.cache_dir)."
        ) from error
    return folder


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the whole new one.

    Raises:
        UapError: no permission, or the disk is full; nothing is left behind.
    """
    make_folder(path.parent)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()
        raise UapError(
            f"{path} could not be written ({error.strerror}): free some space or choose another "
            "folder, then run the same command again."
        ) from error


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON, atomically; NaN and infinity are refused."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path, expected: str) -> dict[str, object]:
    """Read a JSON object.

    Args:
        path: the file.
        expected: what the file should be, for the error's sentence.

    Raises:
        UapError: the file is missing, not JSON, or not an object.
    """
    try:
        content = json.loads(_read(path, expected))
    except (ValueError, RecursionError) as error:
        raise UapError(f"{path} is not valid JSON ({error}): expected {expected}.") from error
    if not isinstance(content, dict):
        raise UapError(f"{path} holds a {type(content).__name__}: expected {expected}.")
    return content


def read_as(path: Path, kind: type[T], expected: str) -> T:
    """Read a JSON file that others may have written as a dataclass, every value of its type.

    Args:
        path: the file.
        kind: the dataclass.
        expected: what the file should be, for the error's sentence.

    Raises:
        UapError: the file is missing, not JSON, or a value is missing or of another type; the
            first one is named.
    """
    try:
        return TypeAdapter(kind).validate_json(_read(path, expected), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        problem = f"{place}: {first['msg']}" if place else first["msg"]
        raise UapError(
            f"{path} is not as it should be ({problem}): expected {expected}."
        ) from error


def _read(path: Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UapError(f"{path} cannot be read ({error.strerror}): expected {expected}.") from error


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and their string metadata as one safetensors file, atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # An empty record without a tensor would be written as invalid JSON by safetensors.
    write_atomically(path, safetensors.torch.save(contiguous, metadata or None))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        UapError: the file is missing, truncated or not safetensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UapError(
            f"{path} is not a readable safetensors file ({error}): "
            "it may be truncated; remove it or put a whole copy in its place."
        ) from error


def digest_of(content: object) -> str:
    """SHA-256 of a JSON-serialisable value, with keys in order (hex)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file (hex).

    Raises:
        UapError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UapError(f"{path} cannot be read ({error.strerror}): give another file.") from error


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold an exclusive lock on ``path``; the system frees it even when the process is killed.

    Args:
        path: the lock file; it is created and left in place.
        wait: wait for another holder, or give up at once.

    Yields:
        whether the lock is held; always true with ``wait``.
    """
    make_folder(path.parent)
    try:
        file = path.open("a")
    except OSError as error:
        raise UapError(
            f"{path} cannot be opened for writing ({error.strerror}): choose a folder you may "
            "write to."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
