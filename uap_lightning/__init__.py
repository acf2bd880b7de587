"""Craft universal adversarial perturbations, defend classifiers against them, measure both."""

from typing import TYPE_CHECKING

from uap_lightning.core.version import __version__

if TYPE_CHECKING:
    from uap_lightning.guard.guard import Guard
    from uap_lightning.guard.stream_guard import StreamGuard

__all__ = ["Guard", "StreamGuard", "__version__"]


def __getattr__(name: str) -> object:
    """The guards, on first use: importing PyTorch takes seconds."""
    if name == "Guard":
        from uap_lightning.guard.guard import Guard

        return Guard
    if name == "StreamGuard":
        from uap_lightning.guard.stream_guard import StreamGuard

        return StreamGuard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
