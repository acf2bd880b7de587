"""One perturbation, one safetensors file, and its record."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_tensors, write_tensors


@dataclass(frozen=True)
class Record:
    """What is known of a crafted perturbation.

    Attributes:
        network: name of the network it was crafted on.
        weights: SHA-256 of that network's weights.
        p: norm that bounds it: ``2`` or ``inf``.
        eps: radius of the ball, pixel units.
        size: side in pixels.
        attack: the attack and its settings, those drawn by the seed included.
        seed: that crafted it.
        attempt: how many seeds before it missed a bound.
        data: digest of the crafting images.
        passes: over the crafting images.
        seconds: crafting took.
        fooling_ratio: share of the crafting images that it fools, 0-1; None where it was
            imported, because it was not crafted here.
        fooling_ratio_unseen: the same on images it was not crafted on; None without any.
        cosine: largest absolute cosine to the perturbations that were there before it.
        l2: l_2 norm, pixel units.
        linf: l_inf norm, pixel units.
        version: of this package.
    """

    network: str
    weights: str
    p: str
    eps: float
    size: int
    attack: dict[str, object]
    seed: int
    attempt: int
    data: str
    passes: float
    seconds: float
    fooling_ratio: float | None
    fooling_ratio_unseen: float | None
    cosine: float
    l2: float
    linf: float
    version: str


def save_perturbation(path: Path, rho: Tensor, record: Record) -> None:
    """Write ``rho`` (float32, 3 x H x W, RGB, pixel units) with its record, atomically.

    Raises:
        UapError: the file cannot be written; nothing is left behind.
    """
    write_tensors(path, {"rho": rho.float()}, {"record": json.dumps(asdict(record))})


def load_perturbation(path: Path | str) -> tuple[Tensor, Record]:
    """Read a perturbation (float32, 3 x H x W, RGB, pixel units) and its record.

    Raises:
        UapError: the file is truncated, or is not a perturbation file.
    """
    tensors, metadata = read_tensors(Path(path))
    try:
        content = json.loads(metadata["record"])
        record = Record(**{field.name: content[field.name] for field in fields(Record)})
        rho = tensors["rho"]
    except (KeyError, ValueError, TypeError) as error:
        raise UapError(
            f"{path} is not a perturbation file (no {error}): expected safetensors with 'rho' "
            "and its record; remove it from the bank."
        ) from error
    if rho.dtype != torch.float32 or rho.ndim != 3 or rho.shape[0] != 3:
        raise UapError(
            f"{path} holds rho of shape {tuple(rho.shape)} and type {rho.dtype}: expected "
            "float32, 3 x H x W; remove it from the bank."
        )
    return rho, record


def ratio_text(ratio: float | None) -> str:
    """A fooling ratio for people."""
    return "unknown" if ratio is None else f"{ratio:.3f}"
