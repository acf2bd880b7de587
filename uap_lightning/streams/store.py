"""The store: a folder of known patterns, one file each, which several processes may share."""

import hashlib
import heapq
import logging
import os
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
# What a record names as the attack where a guard found the pattern.
FOUND = "found"
# Bytes of a perturbation file beside its values.
_RECORD_BYTES = 2**20
# Images from which an estimate is as good as it gets.
_COMPLETE = 64


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

    @property
    def estimated(self) -> int:
        """Images that it was estimated from; 64, as many as are ever used, of imported ones."""
        images = self.record.attack.get("images")
        found = self.record.attack.get("name") == FOUND and isinstance(images, int)
        return images if found and isinstance(images, int) else _COMPLETE


class PatternStore:
    """Reads and writes the patterns of a folder; a bank's files are such patterns too.

    A file is written whole or not at all, and read again when it has changed. A file that is
    damaged, or of another size, is left out with a warning.

    Args:
        folder: made when the first pattern is added.
        size: side of the images in pixels.
    """

    def __init__(self, folder: Path | str, size: int) -> None:
        self.folder = Path(folder)
        self.size = size
        self._read: dict[Path, tuple[tuple[int, int], Known | None]] = {}
        self._said: set[str] = set()

    def known(self) -> list[Known]:
        """The patterns that the folder holds now, by name; the last ones while it is unreadable."""
        files = self._files()
        fresh = dict(self._read) if files is None else {}
        for path in files or []:
            try:
                status = path.stat()
            except OSError:  # another process has just removed it
                continue
            stamp = (status.st_mtime_ns, status.st_size)
            old = self._read.get(path)
            fresh[path] = old if old and old[0] == stamp else (stamp, self._load(path))
        self._read = fresh
        return [found for _, found in fresh.values() if found is not None]

    def _files(self) -> list[Path] | None:
        """The files to read; None where the folder is there and cannot be read."""
        try:
            with os.scandir(self.folder) as entries:
                names = [e.name for e in entries if _is_pattern(e.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn(
                "unreadable",
                f"{self.folder} cannot be read ({error.strerror}): its patterns stay as they were "
                "read last.",
            )
            return None
        if len(names) > LIMIT:
            self._warn(
                "full",
                f"{self.folder} holds {len(names):,} patterns: the first {LIMIT:,} by name are "
                "read.",
            )
        return [self.folder / name for name in heapq.nsmallest(LIMIT, names)]

    def _warn(self, what: str, sentence: str) -> None:
        """Say something once, not for every batch."""
        if what not in self._said:
            log.warning("%s", plain(sentence))
            self._said.add(what)

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
            UapError: the folder cannot be written, or holds 1,024 patterns already.
        """
        make_folder(self.folder)
        path = self.folder / f"{name}.safetensors"
        others = sum(_is_pattern(other.name) for other in self.folder.iterdir())
        if others >= LIMIT and not path.exists():
            raise UapError(
                f"{self.folder} holds {others:,} patterns: expected fewer than {LIMIT:,}; move "
                "some out of it."
            )
        rho = pattern.detach().float().cpu()
        largest = float(rho.abs().max())
        record = Record(
            network=network,
            weights="",
            p="inf",
            eps=max(largest, 1e-6),
            size=self.size,
            attack={"name": FOUND, **provenance},
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
        save_perturbation(path, rho, record)
        return path

    def _load(self, path: Path) -> Known | None:
        try:
            most = 3 * self.size**2 * 4 + _RECORD_BYTES
            if path.stat().st_size > most:
                raise UapError(
                    f"{path} has more than {most:,} bytes: expected a pattern of side {self.size}."
                )
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


def _is_pattern(name: str) -> bool:
    return name.endswith(".safetensors") and not name.startswith(".")


def name_for(template: Tensor) -> str:
    """A name for a pattern that was just found, from its first template: pattern-<digest>."""
    digest = hashlib.sha256(template.detach().cpu().to(torch.float32).numpy().tobytes())
    return f"pattern-{digest.hexdigest()[:12]}"
