"""One perturbation, one safetensors file, and its record."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_tensors, write_tensors

NormName = Literal["2", "inf"]


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
    p: NormName
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
        rho = tensors["rho"]
        record = TypeAdapter(Record).validate_json(metadata["record"], strict=True)
    except (KeyError, ValidationError) as error:
        reason = f"no {error}"
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False)[0]
            reason = f"record {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UapError(
            f"{path} is not a perturbation file ({reason}): expected safetensors with 'rho' "
            "and its record; remove it from the bank."
        ) from error
    square = rho.ndim == 3 and rho.shape[0] == 3 and rho.shape[1] == rho.shape[2] > 0
    if rho.dtype != torch.float32 or not square or not bool(rho.isfinite().all()):
        raise UapError(
            f"{path} holds rho of shape {tuple(rho.shape)} and type {rho.dtype}: expected "
            "finite float32, 3 x H x W and square; remove it from the bank."
        )
    return rho, record


def ratio_text(ratio: float | None) -> str:
    """A fooling ratio for people."""
    return "unknown" if ratio is None else f"{ratio:.3f}"
