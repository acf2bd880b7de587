"""Craft universal adversarial perturbations, defend classifiers against them, measure both."""

from typing import TYPE_CHECKING

from uap_lightning.core.version import __version__

if TYPE_CHECKING:
    from uap_lightning.guard.guard import Guard

__all__ = ["Guard", "__version__"]


def __getattr__(name: str) -> object:
    """The guard, on first use: importing PyTorch takes seconds."""
    if name == "Guard":
        from uap_lightning.guard.guard import Guard

        return Guard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
