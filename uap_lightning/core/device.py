"""Where a job computes, and in which precision."""

import os

import torch

from uap_lightning.core.errors import UapError

# Whoever starts several processes numbers them by these: Lightning, torchrun, SLURM.
_NUMBERS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


def is_first() -> bool:
    """Whether this is the one that writes of the processes that train together, or alone."""
    return all(int(os.environ.get(name, "0")) == 0 for name in _NUMBERS)


def pick_device(accelerator: str) -> torch.device:
    """The device that a Trainer with this accelerator would use.

    Args:
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``cuda``.

    Raises:
        UapError: a GPU is asked for and there is none.
    """
    if accelerator == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        # Of the processes that train together, each has a GPU of its own.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if accelerator == "auto":
        return torch.device("cpu")
    raise UapError(f"accelerator is {accelerator} and no GPU is visible: set accelerator=cpu.")


def pick_precision(precision: str, device: torch.device) -> str:
    """Lightning's precision; ``auto`` is bf16-mixed where ``device`` computes it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return "bf16-mixed" if native else "32-true"
