"""Where a job computes, and in which precision."""

import os

import torch

from uap_lightning.core.errors import UapError


def is_first() -> bool:
    """Whether this is the one that writes of the processes that train together, or alone.

    Numbers count where somebody started several processes: torchrun and Lightning say how many
    they are (``WORLD_SIZE``), and so does a step of srun. A number without them, such as the one
    that a job script hands on to all it starts, says nothing.
    """
    if _number("WORLD_SIZE") > 1:
        names = ["RANK"] if "RANK" in os.environ else ["LOCAL_RANK", "NODE_RANK"]
    elif "SLURM_STEP_ID" in os.environ and _number("SLURM_NTASKS") > 1:
        names = ["SLURM_PROCID"]
    else:
        return True
    return all(_number(name) == 0 for name in names)


def _number(name: str) -> int:
    """A number of the environment; 0 where it is none."""
    said = os.environ.get(name, "")
    return int(said) if said.isdecimal() else 0


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
        return torch.device("cuda", _number("LOCAL_RANK") if _number("WORLD_SIZE") > 1 else 0)
    if accelerator == "auto":
        return torch.device("cpu")
    raise UapError(f"accelerator is {accelerator} and no GPU is visible: set accelerator=cpu.")


def computes_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16; elsewhere it is imitated, which is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def pick_precision(precision: str, device: torch.device) -> str:
    """Lightning's precision; ``auto`` is bf16-mixed where ``device`` has instructions for it."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if computes_bf16(device) else "32-true"
