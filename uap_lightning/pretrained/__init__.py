"""Trained defences that are part of the package: each a defence folder beside this file."""

from pathlib import Path

from uap_lightning.core.errors import UapError

_HERE = Path(__file__).parent


def names() -> list[str]:
    """Names of the defences that there are, such as ``efficientnet_lite0-224-linf``.

    A name tells the classifier, the side of the images in pixels, the norm, and ``fast`` where the
    rectifier is the small one.
    """
    return sorted(record.parent.name for record in _HERE.glob("*/defense.json"))


def folder(name: str) -> Path:
    """Where a defence lies, for :meth:`uap_lightning.Guard.load` and ``defense=``.

    Args:
        name: one of :func:`names`.

    Raises:
        UapError: there is no such defence.
    """
    if name not in names():
        raise UapError(
            f"There is no trained defence {name!r} in the package: expected one of "
            f"{', '.join(names())}; train one with python -m uap_lightning.train."
        )
    return _HERE / name
