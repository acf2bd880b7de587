"""Classes by name: a file that others may have written names a class, and can import nothing."""

import importlib
import os
from collections.abc import Callable
from typing import TypeVar

from torch import nn

from uap_lightning.core.errors import UapError

TRUST = "UAP_TRUST"
Module = TypeVar("Module", bound=type[nn.Module])


class Registry(dict[str, type[nn.Module]]):
    """Classes by the names that defence folders call them by.

    ``@RECTIFIERS.register("my_blur")`` above a class of your own makes it known once its module is
    imported. Where nobody else imports it, the environment variable ``UAP_TRUST`` names the module
    (several are separated by commas).

    Args:
        kind: what they are, for sentences, such as ``rectifier``.
        classes: those known from the start.
    """

    def __init__(self, kind: str, **classes: type[nn.Module]) -> None:
        super().__init__(classes)
        self.kind = kind

    def register(self, name: str) -> Callable[[Module], Module]:
        """A decorator that makes a class known as ``name``.

        Raises:
            UapError: the name belongs to another class.
        """

        def add(found: Module) -> Module:
            if name in self and _path(self[name]) != _path(found):
                raise UapError(
                    f"the {self.kind} {_path(found)} is registered as {name}, which is the name of "
                    f"{_path(self[name])}: choose another name."
                )
            self[name] = found
            return found

        return add

    def name_of(self, found: object) -> str:
        """The name of a class.

        Raises:
            UapError: it was not registered.
        """
        for name, known in self.items():
            if known is found:
                return name
        said = _path(found) if isinstance(found, type) else repr(found)
        raise UapError(
            f"the {self.kind} {said} has no name that a defence folder could call it by: put "
            f'@{self.kind.upper()}S.register("NAME") above the class, from '
            f"uap_lightning.{self.kind}s."
        )

    def find(self, name: object) -> type[nn.Module]:
        """The class of a name, after the modules of ``UAP_TRUST`` were imported.

        Raises:
            UapError: no class has the name, or such a module cannot be imported.
        """
        for module in filter(None, map(str.strip, os.environ.get(TRUST, "").split(","))):
            try:
                importlib.import_module(module)
            except Exception as error:  # a module raises what it likes
                raise UapError(
                    f"{TRUST} names {module}, which cannot be imported "
                    f"({' '.join(str(error).split()) or type(error).__name__}): correct the name, "
                    "or run where Python finds it."
                ) from error
        if not isinstance(name, str) or name not in self:
            raise UapError(
                f"{str(name)[:80]!r} is no {self.kind} (there are {', '.join(self)}): use the "
                f"version of uap-lightning that wrote it or, if it is your own, set {TRUST} to the "
                "module that registers it."
            )
        return self[name]


def _path(found: type) -> str:
    return f"{found.__module__}.{found.__qualname__}"
