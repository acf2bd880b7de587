"""Decode once: photographs, resized, in one file of uint8 pixels that crops are read from."""

import hashlib
import logging
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, locked
from uap_lightning.core.terminal import track
from uap_lightning.data.cache_index import (
    CONTENTS_DIGEST,
    INDEX,
    PIXELS_DIGEST,
    Index,
    damaged,
    digest_of_texts,
    read_index,
    texts,
)
from uap_lightning.data.decoding import CorruptImage, Pixels, content_of, prepared, read_bytes
from uap_lightning.data.photographs import Photograph

log = logging.getLogger(__name__)

# Part of every cache's key: a cache of another layout is not read as this one.
LAYOUT = "3 x H x W in the order of names, index of tensors"

PIXELS = "pixels.bin"

Decoded = tuple[str, Pixels | None]

Item = TypeVar("Item")
Result = TypeVar("Result")


class ImageCache:
    """Resized photographs, read from one file.

    The file is read and not mapped into memory: a mapping would keep all of a large collection
    resident once every image has been seen. Its length is compared with the index at every
    opening, its pixels with their digests when the file is not the one last found to be right
    (by its length and time of change), so that 10 GB are not read at every start.

    Args:
        folder: a folder that :func:`decode_once` has filled.
        places: which of the photographs stored there, and in which order; all of them when None.

    Attributes:
        digest: SHA-256 over the digests of all images; it names the data in records.
        contents: digest of the file that each image was decoded from.
        skipped: which photographs could not be decoded and are not among the images, by their
            number in ``places``.

    Raises:
        UapError: the folder holds no cache, or one that is damaged.
    """

    def __init__(self, folder: Path, places: Sequence[int] | None = None) -> None:
        self.folder = folder
        self._file = folder / PIXELS
        index = read_index(folder)
        starts = np.concatenate([[0], 3 * index.sizes.prod(1).numpy().cumsum()])
        self._check(index, starts)
        numbers = range(len(index.sizes)) if places is None else places
        chosen = torch.tensor(numbers, dtype=torch.int64)
        if len(chosen) and chosen.max() >= len(index.sizes):
            raise damaged(folder, f"{INDEX} has {len(index.sizes)} images")
        there = index.sizes[chosen].any(1)
        self.skipped: list[int] = (~there).nonzero()[:, 0].tolist()
        chosen = chosen[there]
        self._sizes = index.sizes[chosen].numpy()
        self._starts = starts[chosen.numpy()]
        self.contents = texts(index.contents[chosen])
        self.digest = digest_of_texts(index.pixels[chosen])

    def __len__(self) -> int:
        return len(self._sizes)

    def size(self, number: int) -> tuple[int, int]:
        """Height and width of one image."""
        height, width = self._sizes[number].tolist()
        return height, width

    def __getitem__(self, number: int) -> Pixels:
        """The pixels of one image: uint8, 3 x H x W, RGB."""
        return self._read(int(self._starts[number]), self.size(number))

    def _read(self, start: int, size: tuple[int, int]) -> Pixels:
        count = 3 * size[0] * size[1]
        pixels: Pixels = np.fromfile(self._file, dtype=np.uint8, count=count, offset=start)
        return pixels.reshape(3, *size)

    def _check(self, index: Index, starts: NDArray[np.int64]) -> None:
        if not self._file.is_file() or _stamp(self._file)[0] != starts[-1]:
            raise damaged(self.folder, f"{PIXELS} is missing or not of {starts[-1]:,} bytes")
        stamp = torch.tensor(_stamp(self._file))
        if torch.equal(stamp, index.stamp):
            return

        def digest(number: int) -> bytes:
            height, width = index.sizes[number].tolist()
            return _digest(self._read(int(starts[number]), (height, width)))

        found = b"".join(_in_turn(digest, range(len(index.sizes)), "Checking the image cache"))
        if found != index.pixels.numpy().tobytes():
            raise damaged(self.folder, f"{PIXELS} does not have the digests of {INDEX}")
        with suppress(UapError):  # a folder that is only read is checked every time
            replace(index, stamp=stamp).write(self.folder)


def decode_once(
    photographs: Sequence[Photograph],
    resize: int | None,
    smallest: int,
    root: Path,
    *,
    square: bool = False,
    upscale: bool = False,
    skip_corrupt: bool = False,
) -> ImageCache:
    """The cache of these photographs; decoded now if this is the first time.

    The images have the numbers of their photographs, those skipped left out. What is stored does
    not depend on the order: another split of the same photographs finds it decoded.

    Args:
        photographs: the files.
        resize: short side after resizing, in pixels (bilinear, antialiased); None keeps them.
        smallest: a photograph with a shorter side than this is refused.
        root: folder that holds the caches, one folder each.
        square: keep the central square only, as Krizhevsky et al. (2012) prepare ImageNet.
        upscale: enlarge such a photograph instead: to ``resize``, or to ``smallest`` without it.
        skip_corrupt: leave out what cannot be decoded, and say which in ``skipped``.

    Raises:
        UapError: a file is missing, truncated, no image, or too small; the file is named.
    """
    order = sorted(
        range(len(photographs)), key=lambda n: (photographs[n].name, photographs[n].start)
    )
    listed = [photographs[number] for number in order]
    settings = [LAYOUT, resize, smallest, square, upscale, skip_corrupt]
    folder = root / f"images-{_key(settings, listed)[:20]}"

    def read(photograph: Photograph) -> Decoded:
        data = b""
        try:
            data = read_bytes(photograph)
            pixels = prepared(photograph, data, resize, smallest, square, upscale)
        except CorruptImage as error:
            if not skip_corrupt:
                raise
            log.warning("Left out: %s", error)
            return content_of(data), None
        # Colour by colour, as tensors are: a crop is then copied by whole rows.
        return content_of(data), np.ascontiguousarray(pixels.transpose(2, 0, 1))

    if not (folder / INDEX).exists():
        with locked(_lock(folder), wait=False) as free:
            pass
        if not free:
            log.warning("Another process decodes these photographs: waiting for it.")
        with locked(_lock(folder), wait=True):
            _sweep(root, folder)
            if not (folder / INDEX).exists():
                _fill(folder, _in_turn(read, listed, "Decoding photographs"))
    places = [0] * len(order)
    for place, number in enumerate(order):
        places[number] = place
    return ImageCache(folder, places)


def store(folder: Path, images: Iterable[Decoded]) -> None:
    """Write images, each with the digest of its file, so that :class:`ImageCache` reads them.

    Args:
        folder: exists, and is empty.
        images: pixels are uint8, 3 x H x W; None where a photograph could not be decoded.
    """
    sizes, pixels, contents = array("q"), bytearray(), bytearray()
    with (folder / PIXELS).open("wb") as file:
        for content, image in images:
            image = np.zeros((3, 0, 0), np.uint8) if image is None else image
            sizes.extend(image.shape[1:])
            pixels += _digest(image)
            contents += bytes.fromhex(content)
            file.write(image.data)
        file.flush()
        os.fsync(file.fileno())
    count = len(sizes) // 2
    Index(
        torch.tensor(sizes, dtype=torch.int64).view(count, 2),
        torch.from_numpy(np.frombuffer(pixels, np.uint8).reshape(count, PIXELS_DIGEST)),
        torch.from_numpy(np.frombuffer(contents, np.uint8).reshape(count, CONTENTS_DIGEST)),
        torch.tensor(_stamp(folder / PIXELS)),
    ).write(folder)


def _fill(folder: Path, images: Iterable[Decoded]) -> None:
    """Make a cache, whole or not at all."""
    # Not by tempfile, whose folders nobody else may read; not by the process's number, which
    # those of other containers have too.
    partial = folder.parent / f".{folder.name}.{uuid4().hex}"
    try:
        partial.mkdir()
        store(partial, images)
        partial.rename(folder)
    except OSError as error:
        # Where locks are not shared another may have finished first: then it is there to be used.
        if not (folder / INDEX).exists():
            raise UapError(
                f"the image cache {folder} could not be written ({error.strerror}): free some "
                "space or set paths.cache_dir to another folder."
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(root: Path, own: Path) -> None:
    """Remove what killed processes left of caches: folders whose lock is held here or by nobody."""
    for left in root.glob(".images-*.*/"):
        folder = root / left.name[1:].split(".")[0]
        if folder == own:
            shutil.rmtree(left, ignore_errors=True)
        else:
            with locked(_lock(folder), wait=False) as free:
                if free:
                    shutil.rmtree(left, ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _in_turn(work: Callable[[Item], Result], items: Sequence[Item], said: str) -> Iterator[Result]:
    """What several threads make of the items, in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # A bounded number of images is in flight, so that memory does not grow with the set.
        step = 64
        blocks = [items[i : i + step] for i in range(0, len(items), step)]
        for block in track(blocks, said):
            yield from pool.map(work, block)


def _key(settings: Sequence[object], photographs: Sequence[Photograph]) -> str:
    """What a cache of these photographs is named after; a part at a time, as there may be many."""
    digest = hashlib.sha256(digest_of(settings).encode())
    stamp_of = lru_cache(maxsize=16)(_stamp)  # many photographs may lie in one tar file
    for photograph in photographs:
        place = [photograph.name, photograph.start, photograph.length, *stamp_of(photograph.path)]
        digest.update(digest_of(place).encode())
    return digest.hexdigest()


def _digest(image: Pixels) -> bytes:
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.data)
    return digest.digest()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise UapError(f"{path} cannot be read ({error}): remove it.") from error
    return status.st_size, status.st_mtime_ns
