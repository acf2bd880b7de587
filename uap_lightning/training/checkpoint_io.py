"""Checkpoints that are either whole or absent."""

import logging
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically
from uap_lightning.training.module import read_condition

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own writes into the temporary folder and copies from there: where that is another
    file system, a full disk leaves half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint.

        Raises:
            UapError: it could not be written; the one before it is still there.
        """
        content = BytesIO()
        torch.save(checkpoint, content)
        write_atomically(Path(path), content.getvalue())


def own_checkpoint(last: Path) -> Path | None:
    """The checkpoint that a run left in its own folder; None where there is none to go on from.

    One that cannot be read is set aside as ``last.ckpt.unreadable``, with a warning: the run
    goes on from nothing.
    """
    if not last.exists():
        return None
    try:
        read_condition(str(last))
    except UapError:
        aside = last.with_name(f"{last.name}.unreadable")
        with suppress(FileNotFoundError):  # another of several processes was first
            last.replace(aside)
        log.warning("%s cannot be read and is now %s: training begins anew.", last, aside.name)
        return None
    return last
