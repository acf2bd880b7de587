"""Decode once: photographs, resized, in one file of uint8 pixels that crops are read from."""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms import functional

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, make_folder, read_json, write_json
from uap_lightning.core.terminal import track
from uap_lightning.data.photographs import Photograph

log = logging.getLogger(__name__)

# Part of every cache's key: a cache of another layout is not read as this one.
LAYOUT = "3 x H x W"

Pixels = NDArray[np.uint8]

# Resized to a short side of 256, an image of this ratio has 6 million pixels.
_NARROWEST = 100


class ImageCache:
    """Resized photographs, read from one file.

    The file is read and not mapped into memory: a mapping would keep all of a large collection
    resident once every image has been seen.

    Args:
        folder: a folder that :func:`decode_once` has filled.

    Attributes:
        digest: SHA-256 over shapes and pixels; it names the data in records.
        sizes: height and width of each image.
        skipped: which photographs could not be decoded and are not among the images, by their
            number in the list that was decoded.
    """

    def __init__(self, folder: Path) -> None:
        index = read_json(folder / "index.json", "the index of an image cache")
        self.folder = folder
        self.digest = str(index["digest"])
        self.sizes: list[tuple[int, int]] = [(h, w) for h, w in index["sizes"]]  # type: ignore[attr-defined]
        self.skipped: list[int] = list(index["skipped"])  # type: ignore[call-overload]
        ends = np.cumsum([0] + [3 * h * w for h, w in self.sizes])
        self._starts = [int(start) for start in ends]
        self._file = folder / "pixels.bin"

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> Pixels:
        """The pixels of one image: uint8, 3 x H x W, RGB."""
        height, width = self.sizes[number]
        pixels: Pixels = np.fromfile(
            self._file, dtype=np.uint8, count=3 * height * width, offset=self._starts[number]
        )
        return pixels.reshape(3, height, width)


def decode_once(
    photographs: Sequence[Photograph],
    resize: int | None,
    smallest: int,
    root: Path,
    *,
    square: bool = False,
    skip_corrupt: bool = False,
) -> ImageCache:
    """The cache of these photographs; decoded now if this is the first time.

    Args:
        photographs: the files.
        resize: short side after resizing, in pixels (bilinear, antialiased); None keeps them.
        smallest: a photograph with a shorter side than this is refused.
        root: folder that holds the caches, one folder each.
        square: keep the central square only, as Krizhevsky et al. (2012) prepare ImageNet.
        skip_corrupt: leave out what cannot be decoded, and say which in ``skipped``.

    Raises:
        UapError: a file is missing, truncated, no image, or too small; the file is named.
    """
    settings = [LAYOUT, resize, smallest, square, skip_corrupt]
    key = digest_of([settings, *([p.name, *_stamp(p.path)] for p in photographs)])[:20]
    folder = root / f"images-{key}"
    if (folder / "index.json").exists():
        return ImageCache(folder)
    partial_folder = make_folder(root / f".images-{key}.{os.getpid()}")
    read = partial(
        read_pixels if not skip_corrupt else _read_if_whole,
        resize=resize,
        smallest=smallest,
        square=square,
    )
    try:
        _decode(photographs, read, partial_folder)
        partial_folder.rename(folder)
    except OSError as error:
        # Another process may have finished the same cache first: then it is there to be used.
        if not (folder / "index.json").exists():
            raise UapError(
                f"the image cache {folder} could not be written ({error.strerror}): free some "
                "space or set paths.cache_dir to another folder."
            ) from error
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return ImageCache(folder)


def _decode(
    photographs: Sequence[Photograph],
    read: Callable[[Photograph], Pixels | None],
    folder: Path,
) -> None:
    digest = hashlib.sha256()
    sizes: list[list[int]] = []
    skipped: list[int] = []
    with (folder / "pixels.bin").open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        # A bounded number of images is in flight, so that memory does not grow with the set.
        step = 64
        blocks = [photographs[i : i + step] for i in range(0, len(photographs), step)]
        for block in track(blocks, "Decoding photographs"):
            for pixels in pool.map(read, block):
                if pixels is None:
                    skipped.append(len(sizes) + len(skipped))
                    continue
                sizes.append(list(pixels.shape[:2]))
                digest.update(repr(pixels.shape).encode())
                # Colour by colour, as tensors are: a crop is then copied by whole rows.
                content = pixels.transpose(2, 0, 1).tobytes()
                digest.update(content)
                file.write(content)
    index = {"digest": digest.hexdigest(), "sizes": sizes, "skipped": skipped}
    write_json(folder / "index.json", index)


class CorruptImage(UapError):
    """A file that cannot be decoded.

    Args:
        sentence: the whole, with what to do where a data set is read.
        reason: what is wrong with the file, alone.
    """

    def __init__(self, sentence: str, reason: str = "") -> None:
        super().__init__(sentence)
        self.reason = reason


def read_pixels(
    photograph: Photograph, resize: int | None, smallest: int, square: bool = False
) -> Pixels:
    """Decode one photograph to RGB, upright, with its short side resized: uint8, H x W x 3.

    Of an animation it is the first frame; see :func:`to_rgb` for the kinds of pixels.

    Raises:
        CorruptImage: the file is missing, truncated, no image, or too narrow to resize.
        UapError: the image is too small.
    """
    name = photograph.name
    try:
        with photograph.open() as content, Image.open(content) as file:
            image = to_rgb(ImageOps.exif_transpose(file))
    except UnidentifiedImageError as error:
        reason = f"{name} is not an image"
        raise CorruptImage(
            f"{reason}: remove it, replace it, or leave such files out by data.skip_corrupt=true.",
            reason,
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = f"{name} cannot be decoded ({error})"
        raise CorruptImage(
            f"{reason}: it may be truncated; remove it, replace it, or leave such files out by "
            "data.skip_corrupt=true.",
            reason,
        ) from error
    if min(image.size) < smallest:
        raise UapError(
            f"{name} is {image.width} x {image.height} pixels, smaller than the crop of "
            f"{smallest}: remove it, set data.crop to a smaller size, or set data.upscale=true."
        )
    if resize is not None:
        if max(image.size) > _NARROWEST * min(image.size):
            reason = (
                f"{name} is {image.width} x {image.height} pixels, sides of a ratio above "
                f"{_NARROWEST}"
            )
            raise CorruptImage(f"{reason}: crop it or remove it.", reason)
        image = functional.resize(image, resize)
    if square:
        image = functional.center_crop(image, min(image.size))
    return np.ascontiguousarray(np.asarray(image))


def _read_if_whole(
    photograph: Photograph, resize: int | None, smallest: int, square: bool
) -> Pixels | None:
    try:
        return read_pixels(photograph, resize, smallest, square)
    except CorruptImage as error:
        log.warning("Left out: %s", error)
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image as 8-bit RGB.

    Sixteen bits become the upper eight, where Pillow would cut everything above 255. What is
    transparent shows white. Grey, palette and CMYK are converted as Pillow does.

    Raises:
        ValueError: pixels are floats, whose white nobody knows.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floats: expected 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.int64).clip(0, 65_535)
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise UapError(f"{path} cannot be read ({error.strerror}): remove it.") from error
    return status.st_size, status.st_mtime_ns
