"""The defence folder: the trained rectifier and detector as files, each with its digest."""

import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from uap_lightning.core.errors import UapError
from uap_lightning.core.registry import Registry
from uap_lightning.core.storage import (
    FirstSchema,
    digest_of,
    digest_of_file,
    make_folder,
    read_as,
    read_tensors,
    write_json,
    write_tensors,
)
from uap_lightning.core.terminal import plain
from uap_lightning.detectors import DETECTORS
from uap_lightning.detectors.dct_svm import LARGEST
from uap_lightning.rectifiers import RECTIFIERS
from uap_lightning.streams.fitted import load_whitener, save_whitener
from uap_lightning.streams.whitening import Whitener

RECORD = "defense.json"
TRAINED_ON = "trained_on.json"
CARD = "README.md"  # the model card, which the Hub shows; a folder may do without
_PARTS: dict[str, Registry] = {"rectifier": RECTIFIERS, "detector": DETECTORS}
# What a defence folder consists of, and how many bytes of each are read at most.
_BYTES = {RECORD: 2**20, TRAINED_ON: 2**28, **{f"{part}.safetensors": 2**31 for part in _PARTS}}
FILES = tuple(_BYTES)
# A folder may do without: only the guard with memory needs it.
WHITENER = "whitener.safetensors"
# Of the condition: names that each row of results is told by.
_TOLD = ("train_network", "train_norm", "rectifier", "detector")


@dataclass(frozen=True)
class Settings:
    """How to build both parts: ``name`` in the registry, and the constructor's arguments."""

    rectifier: dict[str, Any]
    detector: dict[str, Any]


@dataclass(frozen=True)
class Digests:
    """SHA-256 of the settings and the condition, and of each other file."""

    content: str
    trained_on: str
    rectifier: str
    detector: str
    whitener: str | None = None


@dataclass(frozen=True)
class Record:
    """``defense.json``."""

    schema: FirstSchema
    condition: dict[str, Any]
    settings: Settings
    sha256: Digests


@dataclass(frozen=True)
class TrainedOn:
    """``trained_on.json``: identities of the photographs and perturbations no test may use."""

    photographs: list[str]
    perturbations: list[str]


def save_defense(
    folder: Path,
    rectifier: nn.Module,
    detector: nn.Module,
    arguments: Mapping[str, Mapping[str, object]],
    condition: dict[str, object],
    photographs: Sequence[str] = (),
    perturbations: Sequence[str] = (),
    whitener: Whitener | None = None,
) -> None:
    """Write a defence folder: safetensors files, ``defense.json`` and ``trained_on.json``.

    Args:
        folder: created if need be.
        rectifier: trained; of a class that :data:`~uap_lightning.rectifiers.RECTIFIERS` names.
        detector: fitted; of a class that :data:`~uap_lightning.detectors.DETECTORS` names.
        arguments: of both constructors, under ``rectifier`` and ``detector``.
        condition: what it was trained on: network, classes, norm, size, bank and so on.
        photographs: identities of those it was trained on, which no test may use.
        perturbations: likewise.
        whitener: fitted on those photographs, for the guard with memory.

    Raises:
        UapError: a class has no name, or the folder cannot be written.
    """
    modules = {"rectifier": rectifier, "detector": detector}
    settings = Settings(
        **{p: {"name": r.name_of(type(modules[p])), **arguments[p]} for p, r in _PARTS.items()}
    )
    make_folder(folder)
    write_json(folder / TRAINED_ON, asdict(TrainedOn(list(photographs), list(perturbations))))
    for part, module in modules.items():
        write_tensors(folder / f"{part}.safetensors", module.state_dict(), {})
    if whitener is None:
        (folder / WHITENER).unlink(missing_ok=True)
    else:
        save_whitener(folder / WHITENER, whitener)
    described = [name for name in FILES if name != RECORD] + [WHITENER] * (whitener is not None)
    digests = Digests(
        digest_of([asdict(settings), condition]),
        *(digest_of_file(folder / name) for name in described),
    )
    write_json(folder / RECORD, asdict(Record(1, condition, settings, digests)))


@dataclass(frozen=True)
class Defense:
    """A defence folder, read.

    Attributes:
        rectifier: in evaluation mode.
        detector: in evaluation mode.
        condition: what it was trained on.
        size: side in pixels of the images it was trained on.
        trained_on: identities of the photographs and perturbations it was trained on.
        digest: SHA-256 of its ``defense.json``, which holds the digests of the other files.
        whitener: statistics of photographs, for the guard with memory; None where there are none.
    """

    rectifier: nn.Module
    detector: nn.Module
    condition: dict[str, object]
    size: int
    trained_on: frozenset[str]
    digest: str
    whitener: Whitener | None = None


def load_defense(folder: str | Path) -> Defense:
    """Read a defence folder that :func:`save_defense` wrote.

    It may come from elsewhere. It names classes that are registered, imports nothing by itself
    (see :class:`~uap_lightning.core.registry.Registry` for classes of your own), and asks for no
    more memory than a large defence takes.

    Raises:
        UapError: a file is missing, altered, truncated or not ours, or of another schema; or
            what it describes does not work.
    """
    folder = Path(folder)
    path = folder / RECORD
    for name, most in _BYTES.items():
        _check_file(folder / name, most)
    record = read_as(path, Record, "a defence folder written by this version's training")
    settings = asdict(record.settings)
    if record.sha256.content != digest_of([settings, record.condition]):
        raise UapError(
            f"{path} was altered (the SHA-256 of its settings differs): put the original back, or "
            "train again."
        )
    size = record.condition.get("size")
    if type(size) is not int or not 1 <= size <= LARGEST:
        raise UapError(
            f"{path} has condition.size {size!r}: expected the side of the images in pixels, from "
            f"1 to {LARGEST}; put the original back, or train again."
        )
    classes = record.condition.get("classes", 1)
    if type(classes) is not int or not 1 <= classes <= 1_000_000:
        raise UapError(
            f"{path} has condition.classes {classes!r}: expected their number; put the original "
            "back, or train again."
        )
    resize = record.condition.get("resize")
    if resize is not None and (type(resize) is not int or resize < 1):
        raise UapError(
            f"{path} has condition.resize {resize!r}: expected the short side of the photographs "
            "in pixels, or null; put the original back, or train again."
        )
    for key in _TOLD:
        told = record.condition.get(key)
        if not isinstance(told, str) or plain(told) != told:
            raise UapError(
                f"{path} has {told!r} under condition.{key}: expected a name, which every result "
                "tells; put the original back, or train again."
            )
    for name in FILES[1:]:
        if digest_of_file(folder / name) != getattr(record.sha256, Path(name).stem):
            raise _another(folder / name, path)
    whitener = _read_whitener(folder, record.sha256.whitener, size)
    trained_on = read_as(folder / TRAINED_ON, TrainedOn, "what the defence was trained on")
    rectifier = _build(RECTIFIERS, settings["rectifier"], folder)
    detector = _build(DETECTORS, settings["detector"], folder)
    _try(rectifier, detector, size, path)
    known = frozenset([*trained_on.photographs, *trained_on.perturbations])
    digest = digest_of_file(path)
    return Defense(rectifier, detector, record.condition, size, known, digest, whitener)


def _read_whitener(folder: Path, digest: str | None, size: int) -> Whitener | None:
    """The whitener that ``defense.json`` describes, where it describes one."""
    path = folder / WHITENER
    if digest is None:
        if path.exists() or path.is_symlink():
            raise UapError(
                f"{folder / RECORD} does not describe {path}: remove it, or train again."
            )
        return None
    _check_file(path, 2**26)
    if digest_of_file(path) != digest:
        raise _another(path, folder / RECORD)
    return load_whitener(path, size)


def _another(file: Path, record: Path) -> UapError:
    return UapError(
        f"{file} is not the file that {record} describes (its SHA-256 differs): put the original "
        "back, or train again."
    )


def _check_file(file: Path, most: int) -> None:
    """Refuse what cannot be read to its end, or is larger than any file that training writes."""
    try:
        status = file.stat()
    except OSError:
        return  # told where it is read
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
        raise UapError(
            f"{file} is not a regular file of at most {most} bytes: put the original back, or "
            "train again."
        )


def _build(registry: Registry, settings: dict[str, Any], folder: Path) -> nn.Module:
    """A module from its settings, which may come from elsewhere, and the file of its tensors."""
    record, file = folder / RECORD, folder / f"{registry.kind}.safetensors"
    arguments = dict(settings)
    try:
        found = registry.find(arguments.pop("name", None))
    except UapError as error:
        raise UapError(f"{record}: {error}") from error
    tensors = read_tensors(file)[0]
    try:
        if found.__module__.startswith(f"{__package__.partition('.')[0]}."):
            # Without memory first: settings may ask for more than the file holds.
            with torch.device("meta"):
                found(**arguments).load_state_dict(tensors, strict=True, assign=True)
        module = found(**arguments)
        for name, own in module.state_dict().items():
            if name in tensors and tensors[name].dtype != own.dtype:
                raise TypeError(f"{name} is {tensors[name].dtype} and should be {own.dtype}")
        module.load_state_dict(tensors, strict=True)
    except Exception as error:  # a constructor raises what it likes
        raise UapError(
            f"{file} or its settings in {record} do not fit the {registry.kind} "
            f"{settings['name']} ({_short(error)}): use the version of uap-lightning that wrote "
            "them, or train again."
        ) from error
    for name, tensor in module.state_dict().items():
        if not tensor.isfinite().all():
            raise UapError(
                f"{file} holds values in {name} that are not finite: its training diverged, or it "
                "was altered; put the original back, or train again."
            )
    return module.eval()


@torch.no_grad()
def _try(rectifier: nn.Module, detector: nn.Module, size: int, path: Path) -> None:
    """Refuse settings that build something which does not work: one grey image goes through."""
    images = torch.full((1, 3, size, size), 127.0)
    try:
        rectified = rectifier(images)
        score = detector(images - rectified)
        shapes = (tuple(rectified.shape), tuple(score.shape))
        if shapes != (tuple(images.shape), (1,)):
            raise ValueError(f"they return {shapes[0]} and {shapes[1]}")
        if not rectified.isfinite().all() or not score.isfinite().all():
            raise ValueError("they return values that are not finite")
    except Exception as error:  # modules raise what they like
        raise UapError(
            f"the rectifier and the detector of {path} do not work on an image of side {size} "
            f"({_short(error)}): put the original back, or train again."
        ) from error


def _short(error: Exception) -> str:
    """What an error says, on one line, without the hundreds of names that it may list."""
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return said if len(said) <= 300 else f"{said[:300]}…"
