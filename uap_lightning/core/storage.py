"""Files that are either whole or absent: atomic writes, digests, locks, checked safetensors."""

import errno
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Annotated, TypeVar

import safetensors.torch
from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from uap_lightning.core.errors import UapError

T = TypeVar("T")
FirstSchema = Annotated[int, Field(strict=True, ge=1, le=1)]  # a Literal would take true for 1


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

    It is written beside ``path``, so that a full disk is met there and not half-way through a
    copy, and then renamed. The umask decides who may read it.

    Raises:
        UapError: no permission, the name is too long, or the disk is full; nothing is left behind.
    """
    make_folder(path.parent)
    # No name is longer than 255 bytes, and a character has at most four.
    temporary = path.parent / f".{path.name[:50]}.{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise UapError(
            f"{path} could not be written ({error.strerror}): "
            f"{'free some space' if full else 'give a name and a place that you may write to'}, "
            "then run the same command again."
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON, atomically; NaN and infinity are refused.

    Raises:
        UapError: text in it is not Unicode, or the file cannot be written.
    """
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    try:
        encoded = (text + "\n").encode()
    except UnicodeEncodeError as error:
        found = text[max(0, error.start - 20) : error.end]
        raise UapError(
            f"{path} could not be written ({error.reason} in {found!a}): expected names in UTF-8; "
            "rename what is called so."
        ) from error
    write_atomically(path, encoded)


def read_json(path: Path, expected: str) -> dict[str, object]:
    """Read a JSON object in which every key comes once, every number is finite, all text Unicode.

    Args:
        path: the file.
        expected: what the file should be, for the error's sentence.

    Raises:
        UapError: the file is missing, not such JSON, or not an object.
    """
    try:
        with _opened(path, expected) as file:
            content = json.loads(file.read(), object_pairs_hook=_once)
        # What Python's parser takes beyond the standard: NaN, 1e999, half of a surrogate pair.
        _check_finite(content, "")
        json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UapError(f"{path} is not valid JSON ({error}): expected {expected}.") from error
    if not isinstance(content, dict):
        raise UapError(f"{path} holds a {type(content).__name__}: expected {expected}.")
    return content


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!a} comes twice")
    return content


def _check_finite(content: object, place: str) -> None:
    if isinstance(content, float) and not math.isfinite(content):
        raise ValueError(f"{place[1:]} is {content}")
    if isinstance(content, dict):
        for key, value in content.items():
            _check_finite(value, f"{place}.{key}")
    elif isinstance(content, list):
        for number, value in enumerate(content):
            _check_finite(value, f"{place}.{number}")


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
    content = json.dumps(read_json(path, expected))
    try:
        return TypeAdapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        problem = f"{place}: {first['msg']}" if place else first["msg"]
        raise UapError(
            f"{path} is not as it should be ({problem}): expected {expected}."
        ) from error


@contextmanager
def _opened(path: Path, expected: str) -> Iterator[BufferedReader]:
    """A file for reading; a device or a pipe, which may never end, is none."""
    try:
        if path.exists() and not path.is_file():
            raise UapError(f"{path} is not a regular file: expected {expected}.")
        with path.open("rb") as file:
            yield file
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
    with _opened(path, "a safetensors file"):
        pass
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
    with _opened(path, "a file whose SHA-256 can be computed") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold an exclusive lock on ``path``; the system frees it even when the process is killed.

    Args:
        path: the lock file; it is created and left in place.
        wait: wait for another holder, or give up at once.

    Yields:
        whether the lock is held; always true with ``wait``.

    Raises:
        UapError: the file cannot be opened, or its file system has no locks. A lock file that a
            killed process would leave behind is no substitute.
    """
    make_folder(path.parent)
    lock = FileLock(path, blocking=wait, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or "locks are not supported"
        raise UapError(
            f"{path} could not be locked ({reason}): choose a folder that you may write to, on a "
            "file system with locks (paths.output_dir, paths.bank_dir, paths.cache_dir)."
        ) from error
    try:
        yield True
    finally:
        lock.release()
