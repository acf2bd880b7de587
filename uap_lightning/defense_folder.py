"""The defence folder: the trained rectifier and detector as files, each with its digest."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.utils import get_object
from torch import nn

from uap_lightning.errors import UapError
from uap_lightning.storage import (
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
        isinstance(settings, dict)
        and isinstance(digests, dict)
        and isinstance(condition, dict)
        and isinstance(condition.get("size"), int)
    ):
        raise UapError(f"{path} lacks its settings: expected a file that training wrote.")
    # A folder may lack this one digest; those of its two files it must have.
    if "content" in digests and digests["content"] != digest_of([settings, condition]):
        raise UapError(
            f"{path} was altered (the SHA-256 of its settings differs): put the original back, or "
            "train again."
        )
    trained_on: list[str] = []
    if "trained_on" in digests:
        file = folder / TRAINED_ON
        _check_digest(file, path, digests["trained_on"])
        trained_on = list(read_json(file, "the photographs trained on")["photographs"])  # type: ignore[call-overload]
    modules = {}
    for part in _PARTS:
        file = folder / f"{part}.safetensors"
        _check_digest(file, path, digests.get(part))
        modules[part] = _build(settings.get(part), path)
        try:
            modules[part].load_state_dict(read_tensors(file)[0])
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UapError(
                f"{file} does not fit the {part} of this version of uap-lightning ({reason}): "
                "use the version that wrote it, or train again."
            ) from error
        modules[part].eval()
    return Defense(
        modules["rectifier"],
        modules["detector"],
        condition,
        condition["size"],
        frozenset(trained_on),
        digest_of_file(path),
    )


def _check_digest(file: Path, record: Path, expected: object) -> None:
    if digest_of_file(file) != expected:
        raise UapError(
            f"{file} is not the file that {record} describes (its SHA-256 differs): put the "
            "original back, or train again."
        )


def _build(settings: object, path: Path) -> nn.Module:
    """A module from its settings; they may come from elsewhere, and name trusted classes only."""
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
    try:
        module: nn.Module = found(**arguments)
    except TypeError as error:
        raise UapError(
            f"{path} does not fit {target} ({error}): use the version of uap-lightning that wrote "
            "it."
        ) from error
    return module
