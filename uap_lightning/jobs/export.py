"""Write a trained defence around a network as one file."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically
from uap_lightning.guard.graph import OUTPUTS, PIXELS, describe, to_onnx, to_program, to_pt2
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.config import build, typed
from uap_lightning.jobs.schema import ExportConfig

log = logging.getLogger(__name__)


def export(composed: DictConfig) -> None:
    """Write a trained defence around a network as one ONNX or torch.export file."""
    cfg = typed(composed, ExportConfig)
    output = Path(cfg.output)
    check_output(output, (".onnx", ".pt2"), overwrite=cfg.overwrite)
    if cfg.pixels not in PIXELS:
        raise UapError(f"pixels is {cfg.pixels}: expected one of {', '.join(PIXELS)}.")
    if cfg.precision not in (16, 32):
        raise UapError(f"precision is {cfg.precision}: expected 32 or 16.")
    guard = Guard.load(cfg.defense, build(cfg.network))
    program = to_program(guard, PIXELS[cfg.pixels], half=cfg.precision == 16)
    record = describe(guard, cfg.pixels, cfg.precision)
    content = to_onnx(program, record) if output.suffix == ".onnx" else to_pt2(program, record)
    write_atomically(output, content)
    log.info(
        "Wrote %s (%.1f MB): images (%s, N x 3 x %s x %s, RGB, 0-255) to %s",
        output,
        len(content) / 1e6,
        cfg.pixels,
        record["size"],
        record["size"],
        ", ".join(OUTPUTS),
    )


def check_output(output: Path, suffixes: tuple[str, ...], *, overwrite: bool) -> None:
    """Refuse a file of a kind that is not written here, or that is there already.

    Raises:
        UapError: the suffix is none of ``suffixes``, or the file exists.
    """
    if output.suffix not in suffixes:
        raise UapError(f"output is {output}: expected a file that ends in {' or '.join(suffixes)}.")
    if output.is_dir() or (output.exists() and not overwrite):
        raise UapError(f"{output} exists: give another output, or replace it by overwrite=true.")
