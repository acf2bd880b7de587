"""The store: a folder of known patterns, one file each, which several processes may share."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import make_folder
from uap_lightning.core.terminal import plain
from uap_lightning.core.version import __version__
from uap_lightning.perturbations.record import Record, load_perturbation, save_perturbation

log = logging.getLogger(__name__)

# Patterns of a folder that are read: others' folders may hold anything.
LIMIT = 1_024
# What no perturbation file of the largest images exceeds.
_BYTES = 2**26


@dataclass(frozen=True)
class Known:
    """A pattern of the store.

    Attributes:
        name: of its file, without the suffix.
        pattern: 3 x H x W, pixel units.
        record: where it comes from.
    """

    name: str
    pattern: Tensor
    record: Record


class PatternStore:
    """Reads and writes the patterns of a folder; a bank's files are such patterns too.

    A file is written whole or not at all, and read again when it has changed. A file that is
    damaged, or of another size, is left out with a warning.

    Args:
        folder: made when the first pattern is added.
        size: side of the images in pixels.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size
        self._read: dict[Path, tuple[tuple[int, int], Known | None]] = {}

    def known(self) -> list[Known]:
        """The patterns that the folder holds now, by name."""
        files = sorted(self.folder.glob("*.safetensors"))[:LIMIT] if self.folder.is_dir() else []
        fresh: dict[Path, tuple[tuple[int, int], Known | None]] = {}
        for path in files:
            try:
                status = path.stat()
            except OSError:  # another process has just removed it
                continue
            stamp = (status.st_mtime_ns, status.st_size)
            old = self._read.get(path)
            fresh[path] = old if old and old[0] == stamp else (stamp, self._load(path))
        self._read = fresh
        return [found for _, found in fresh.values() if found is not None]

    def add(
        self, pattern: Tensor, name: str, network: str, provenance: Mapping[str, object]
    ) -> Path:
        """Write a pattern that was found, in place of an earlier estimate of the same name.

        Args:
            pattern: 3 x H x W, pixel units.
            name: of the file, without the suffix.
            network: that it was verified against.
            provenance: how it was found: plain strings and numbers.

        Raises:
            UapError: the folder cannot be written.
        """
        make_folder(self.folder)
        rho = pattern.detach().float().cpu()
        largest = float(rho.abs().max())
        record = Record(
            network=network,
            weights="",
            p="inf",
            eps=max(largest, 1e-6),
            size=self.size,
            attack={"name": "found", **provenance},
            seed=0,
            attempt=0,
            data="",
            passes=0.0,
            seconds=0.0,
            fooling_ratio=None,
            fooling_ratio_unseen=None,
            cosine=0.0,
            l2=float(rho.norm()),
            linf=largest,
            version=__version__,
        )
        path = self.folder / f"{name}.safetensors"
        save_perturbation(path, rho, record)
        return path

    def _load(self, path: Path) -> Known | None:
        try:
            if path.stat().st_size > _BYTES:
                raise UapError(f"{path} has more than {_BYTES:,} bytes: expected a perturbation.")
            rho, record = load_perturbation(path)
            if rho.shape[-1] != self.size:
                raise UapError(
                    f"{path} is a pattern of side {rho.shape[-1]}: expected {self.size}; keep "
                    "patterns of each size in a folder of their own."
                )
            if float(rho.abs().max()) > 255:
                raise UapError(f"{path} holds values above 255: expected pixel units.")
        except (UapError, OSError) as error:
            log.warning("%s It is left out.", plain(str(error)))
            return None
        return Known(path.stem, rho, record)


def name_for(template: Tensor) -> str:
    """A name for a pattern that was just found, from its first template: pattern-<digest>."""
    digest = hashlib.sha256(template.detach().cpu().to(torch.float32).numpy().tobytes())
    return f"pattern-{digest.hexdigest()[:12]}"
