"""The defence folder: the trained rectifier and detector as files, each with its digest."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import get_object
from torch import nn

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import (
    digest_of,
    digest_of_file,
    make_folder,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)

SCHEMA = 1
RECORD = "defense.json"
_PARTS = ("rectifier", "detector")
_OURS = ("uap_lightning.rectifiers", "uap_lightning.detectors")
TRUST = "UAP_TRUST"
CARD = "model_card.md"
# What a defence folder consists of; a model card may lie beside these.
TRAINED_ON = "trained_on.json"
FILES = (RECORD, TRAINED_ON, *(f"{part}.safetensors" for part in _PARTS))


def save_defense(
    folder: Path,
    rectifier: nn.Module,
    detector: nn.Module,
    settings: dict[str, object],
    condition: dict[str, object],
    trained_on: Sequence[str] = (),
) -> None:
    """Write a defence folder: two safetensors files, ``defense.json`` and ``trained_on.json``.

    Args:
        folder: created if need be.
        rectifier: trained.
        detector: fitted.
        settings: how to build both: ``rectifier`` and ``detector``, each with its ``_target_``.
        condition: what it was trained on: network, classes, norm, size, bank and so on.
        trained_on: identities of the photographs it was trained on, which no test may use.
    """
    make_folder(folder)
    digests = {"content": digest_of([settings, condition])}
    write_json(folder / TRAINED_ON, {"photographs": list(trained_on)})
    digests["trained_on"] = digest_of_file(folder / TRAINED_ON)
    for part, module in zip(_PARTS, (rectifier, detector), strict=True):
        path = folder / f"{part}.safetensors"
        write_tensors(path, module.state_dict(), {})
        digests[part] = digest_of_file(path)
    write_json(
        folder / RECORD,
        {"schema": SCHEMA, "condition": condition, "settings": settings, "sha256": digests},
    )


@dataclass(frozen=True)
class Defense:
    """A defence folder, read.

    Attributes:
        rectifier: in evaluation mode.
        detector: in evaluation mode.
        condition: what it was trained on.
        size: side in pixels of the images it was trained on.
        trained_on: identities of the photographs it was trained on.
        digest: SHA-256 of its ``defense.json``, which holds the digests of both files.
    """

    rectifier: nn.Module
    detector: nn.Module
    condition: dict[str, object]
    size: int
    trained_on: frozenset[str]
    digest: str


def load_defense(folder: str | Path) -> Defense:
    """Read a defence folder that :func:`save_defense` wrote.

    It may come from elsewhere: only classes of uap_lightning are built, and those of the modules
    that the environment variable ``UAP_TRUST`` names, separated by commas.

    Raises:
        UapError: a file is missing, altered, truncated or not ours, or of a newer schema.
    """
    folder = Path(folder)
    path = folder / RECORD
    content = read_json(path, "a defence folder written by uap_lightning.train")
    schema, settings = content.get("schema"), content.get("settings")
    digests, condition = content.get("sha256"), content.get("condition")
    if schema != SCHEMA:
        raise UapError(
            f"{path} has schema {schema}: expected {SCHEMA}; use the version of uap-lightning "
            "that wrote it, or train again."
        )
    if not (
        isinstance(settings, dict) and isinstance(digests, dict) and isinstance(condition, dict)
    ):
        raise UapError(f"{path} lacks its settings: expected a file that training wrote.")
    for name in ("content", "trained_on", *_PARTS):
        if not isinstance(digests.get(name), str):
            raise UapError(
                f"{path} lacks the SHA-256 of its {name}: put the original back, or train again."
            )
    if digests["content"] != digest_of([settings, condition]):
        raise UapError(
            f"{path} was altered (the SHA-256 of its settings differs): put the original back, or "
            "train again."
        )
    size = _read_size(condition, settings, path)
    _check_digest(folder / TRAINED_ON, path, digests["trained_on"])
    trained_on = _read_trained_on(folder / TRAINED_ON)
    modules = {}
    for part in _PARTS:
        file = folder / f"{part}.safetensors"
        _check_digest(file, path, digests[part])
        modules[part] = _build(settings.get(part), path, file).eval()
    return Defense(
        modules["rectifier"],
        modules["detector"],
        condition,
        size,
        frozenset(trained_on),
        digest_of_file(path),
    )


def _read_size(condition: dict[str, object], settings: dict[str, object], path: Path) -> int:
    """The side of the images; the detector's, where it has one, must be the same."""
    size, detector = condition.get("size"), settings.get("detector")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UapError(
            f"{path} has condition.size {size}: expected the side of the images in pixels; put "
            "the original back, or train again."
        )
    fitted = detector.get("size", size) if isinstance(detector, dict) else size
    if fitted != size:
        raise UapError(
            f"{path} has condition.size {size} and a detector of size {fitted}: expected the "
            "same; put the original back, or train again."
        )
    return size


def _read_trained_on(file: Path) -> list[str]:
    photographs = read_json(file, "the photographs trained on").get("photographs")
    if not isinstance(photographs, list) or not all(isinstance(p, str) for p in photographs):
        raise UapError(
            f"{file} has no list photographs of strings: put the original back, or train again."
        )
    return photographs


def _check_digest(file: Path, record: Path, expected: object) -> None:
    if digest_of_file(file) != expected:
        raise UapError(
            f"{file} is not the file that {record} describes (its SHA-256 differs): put the "
            "original back, or train again."
        )


def _build(settings: object, path: Path, file: Path) -> nn.Module:
    """A module from its settings and the file of its tensors.

    The settings may come from elsewhere, and name trusted classes only.
    """
    arguments = dict(settings) if isinstance(settings, dict) else {}
    target = str(arguments.pop("_target_", None))
    named = [name.strip() for name in os.environ.get(TRUST, "").split(",") if name.strip()]
    trusted = tuple(f"{name}." for name in (*_OURS, *named))
    found: object = None
    if target.startswith(trusted):
        try:
            found = get_object(target)
        except Exception as error:  # hydra re-raises whatever the import raised
            raise UapError(
                f"{path} asks for {target}, which this version of uap-lightning does not have: "
                "use the version that wrote it, or run where Python finds a module of your own."
            ) from error
    # Our modules import others, which are within their reach and not ours.
    if not (
        isinstance(found, type)
        and issubclass(found, nn.Module)
        and f"{found.__module__}.".startswith(trusted)
    ):
        raise UapError(
            f"{path} asks for {target}: expected a rectifier or a detector of uap_lightning; if "
            f"it is your own, set {TRUST}={target.partition('.')[0]} in the environment."
        )
    tensors = read_tensors(file)[0]
    try:
        if target.startswith(tuple(f"{name}." for name in _OURS)):
            # Without memory first: settings may ask for more than there is.
            with torch.device("meta"):
                found(**arguments).load_state_dict(tensors, assign=True)
        module: nn.Module = found(**arguments)
        module.load_state_dict(tensors)
    except Exception as error:  # a constructor raises what it likes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UapError(
            f"{file} or its settings in {path} do not fit {target} ({reason}): use the version of "
            "uap-lightning that wrote them, or train again."
        ) from error
    return module
