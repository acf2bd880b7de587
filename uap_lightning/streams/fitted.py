"""A fitted whitener as a file."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_tensors, write_tensors
from uap_lightning.streams.whitening import Whitener


def save_whitener(path: Path, whitener: Whitener) -> None:
    """Write what a whitener was fitted to (safetensors), atomically.

    Raises:
        UapError: the file cannot be written; nothing is left behind.
    """
    write_tensors(path, whitener.state_dict(), {})


def load_whitener(path: Path, size: int) -> Whitener:
    """Read a whitener that :func:`save_whitener` wrote.

    Args:
        path: the file.
        size: side of the images in pixels.

    Raises:
        UapError: the file is missing, no whitener, or one for another size.
    """
    return whitener_of(read_tensors(path)[0], size, path)


def whitener_of(tensors: Mapping[str, Tensor], size: int, path: Path) -> Whitener:
    """A whitener from its tensors, which may come from elsewhere.

    Raises:
        UapError: they do not fit, or hold values that no photographs have; ``path`` is named.
    """
    whitener = Whitener(size)
    for name, own in whitener.state_dict().items():
        given = tensors.get(name)
        if given is None or given.shape != own.shape or given.dtype != own.dtype:
            found = "nothing" if given is None else f"{tuple(given.shape)} {given.dtype}"
            raise UapError(
                f"{path} has {found} under {name}: expected {tuple(own.shape)} {own.dtype}, the "
                f"statistics of photographs of side {size}; put the original back."
            )
    numbers = [tensors["numbers"], tensors["spectral_numbers"]]
    positive = [tensors["power"], tensors["length"], *(one[-3:] for one in numbers)]
    finite = all(bool(one.isfinite().all()) for one in numbers)
    if not finite or not all(bool(((t > 0) & t.isfinite()).all()) for t in positive):
        raise UapError(
            f"{path} holds statistics that are not finite and above 0, which no photographs have: "
            "put the original back."
        )
    whitener.load_state_dict({name: tensors[name] for name in whitener.state_dict()})
    return whitener


def same_whitener(some: Whitener, other: Whitener) -> bool:
    """Whether two whiteners give every image the same residual."""
    pairs = zip(some.state_dict().values(), other.state_dict().values(), strict=True)
    return some.size == other.size and all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs)
