"""What a config builds: every ``_target_`` exists and takes the arguments beside it."""

import inspect
import math
from collections.abc import Iterator
from typing import Any

from hydra.utils import get_object

from uap_lightning.core.errors import UapError
from uap_lightning.core.registry import Registry
from uap_lightning.detectors import DETECTORS
from uap_lightning.rectifiers import RECTIFIERS

# Keys of a group's node that the command line and other nodes read.
NOT_ARGUMENTS = ("name", "root")
# What a defence folder is to name is registered before any work.
_NAMED: dict[str, Registry] = {"rectifier.model": RECTIFIERS, "detector.model": DETECTORS}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def check_objects(content: object) -> None:
    """Check every object of a resolved config.

    Raises:
        UapError: an object's ``_target_`` does not exist, does not take an argument, or an
            argument is of another type or not finite; a rectifier or a detector has no name.
    """
    for key, node in _objects(content, ""):
        _check_object(key, node)


def _objects(content: object, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(content, list):
        for number, item in enumerate(content):
            yield from _objects(item, f"{key}[{number}]")
    if isinstance(content, dict):
        if "_target_" in content:
            yield key, content
        for name, item in content.items():
            yield from _objects(item, f"{key}.{name}".lstrip("."))


def _check_object(key: str, node: dict[str, Any]) -> None:
    """That ``_target_`` exists and takes the arguments beside it."""
    target = str(node["_target_"])
    try:
        found = get_object(target)
    except Exception as error:  # hydra re-raises whatever the import raised
        raise UapError(
            f"{key}._target_ is {target}, which cannot be imported "
            f"({' '.join(str(error).split())}): correct the name or install its package."
        ) from error
    if key in _NAMED:
        _NAMED[key].name_of(found)
    named = {k for k in node if not (k.startswith("_") and k.endswith("_"))}
    try:
        signature = inspect.signature(found)
    except ValueError:
        # A few compiled classes have no signature to compare with.
        return
    named -= set(NOT_ARGUMENTS) - set(signature.parameters)
    try:
        signature.bind_partial(**dict.fromkeys(named))
    except TypeError as error:
        raise UapError(
            f"{key} does not fit {target} ({error}): remove or rename the key."
        ) from error
    for name in sorted(named & set(signature.parameters)):
        expected, value = signature.parameters[name].annotation, node[name]
        number = expected in (int, float) and isinstance(value, int) and not isinstance(value, bool)
        if expected in (bool, int, float, str) and not number and type(value) is not expected:
            raise UapError(
                f"{key}.{name} is {value!r}: expected {_KINDS[expected]}; correct the value."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise UapError(f"{key}.{name} is {value}: expected a finite number.")
