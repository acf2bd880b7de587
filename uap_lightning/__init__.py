"""Craft universal adversarial perturbations, defend classifiers against them, measure both."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uap_lightning.defense import Guard

__all__ = ["Guard"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The guard, on first use: importing PyTorch takes seconds."""
    if name == "Guard":
        from uap_lightning.defense import Guard

        return Guard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
