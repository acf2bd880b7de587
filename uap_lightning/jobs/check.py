"""What can be told of a config before anything is built: sizes of values, objects, arguments."""

import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from unicodedata import category

from hydra.utils import get_object
from pydantic import TypeAdapter, ValidationError

from uap_lightning.core.errors import UapError
from uap_lightning.core.registry import Registry
from uap_lightning.detectors import DETECTORS
from uap_lightning.rectifiers import RECTIFIERS

# What a defence folder is to name is registered before any work.
_NAMED: dict[str, Registry] = {"rectifier.model": RECTIFIERS, "detector.model": DETECTORS}
_PLAIN = (bool, int, float, str, dict, list, tuple, NoneType, Any)
_LARGEST_WHOLE = 2**32 - 1
_LARGEST = 1e12
_LONGEST = 200  # bytes that every file system takes for a name, with room for what is added


def check_values(content: object, key: str = "") -> None:
    """Check that every value of a resolved config is of a size that can be meant.

    Raises:
        UapError: a number is beyond what anything here counts, or a text is too long for a name
            of a file or holds control characters.
    """
    if isinstance(content, dict):
        for name, value in content.items():
            check_values(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            check_values(value, f"{key}[{number}]")
    elif isinstance(content, int) and abs(content) > _LARGEST_WHOLE:
        raise UapError(f"{key} is {content}: expected at most {_LARGEST_WHOLE}.")
    elif isinstance(content, float) and _LARGEST < abs(content) < math.inf:
        raise UapError(f"{key} is {content}: expected at most {_LARGEST:g}.")
    elif isinstance(content, str):
        longest = max(len(part.encode(errors="replace")) for part in content.split("/"))
        if longest > _LONGEST:
            raise UapError(
                f"{key} is {content[:30]}... of {longest} bytes: expected a name of at most "
                f"{_LONGEST}."
            )
        if any(category(character) in ("Cc", "Cs") for character in content):
            raise UapError(f"{key} is {content!r}: expected a text without control characters.")


def check_objects(content: object) -> None:
    """Check every object of a resolved config.

    Raises:
        UapError: an object's ``_target_`` does not exist, does not take an argument, or an
            argument is of another type or not finite; a rectifier or a detector has no name.
    """
    for key, node in _objects(content, ""):
        _check_object(key, node)


def not_arguments(node: Mapping[str, object]) -> set[str]:
    """Keys of a group's node that people and other nodes read, and not what the node makes."""
    source = node.get("source")
    passed_on = {"test_root"} & set(source) if isinstance(source, Mapping) else set()
    return {"name", "root", *passed_on}


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
    except (TypeError, ValueError):
        # A few compiled classes have no signature to compare with.
        return
    named -= not_arguments(node) - set(signature.parameters)
    try:
        signature.bind_partial(**dict.fromkeys(named))
    except TypeError as error:
        raise UapError(
            f"{key} does not fit its _target_ {target} ({error}): remove or rename the key."
        ) from error
    hints = _hints(found)
    for name in sorted(named & set(signature.parameters)):
        _check_argument(f"{key}.{name}", node[name], hints.get(name))


def _check_argument(key: str, value: object, hint: object) -> None:
    """That a value is finite, and of the type that its parameter is annotated with."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UapError(f"{key} is {value}: expected a finite number.")
    if get_origin(hint) is Callable and not isinstance(value, dict):
        raise UapError(f"{key} is {value!r}: expected an object with its _target_.")
    plain = _plain(hint)
    if plain is None or (isinstance(value, dict) and "_target_" in value):
        return
    try:
        TypeAdapter(plain).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        said = dict.fromkeys(str(e["msg"]) for e in error.errors(include_url=False))
        expected = " or ".join(said).replace("Input should be ", "")
        raise UapError(f"{key} is {value!r}: expected {expected}; correct the value.") from error


def _hints(found: Any) -> dict[str, Any]:
    """The types of an object's parameters; none where they cannot be resolved."""
    try:
        return get_type_hints(found.__init__ if inspect.isclass(found) else found)
    except Exception:  # an annotation may name what is only there for type checkers
        return {}


def _plain(hint: Any) -> Any:
    """The part of a type that JSON can hold; None where there is none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _PLAIN or origin is Literal:
        return hint
    if origin in (Union, UnionType):
        members = [plain for plain in map(_plain, arguments) if plain is not None]
        return reduce(or_, members) if members else None
    if origin in (list, tuple, dict, Sequence, Mapping) and arguments:
        inner = tuple(a if a is ... else _plain(a) for a in arguments)
        return None if None in inner else origin[inner]
    return None
