"""An image file as RGB pixels, or one sentence that says why not."""

import hashlib
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torchvision.transforms import functional

from uap_lightning.core.errors import UapError
from uap_lightning.data.photographs import Photograph

Pixels = NDArray[np.uint8]

# What a file may be, by its name and by its content: Pillow knows others, of which one starts
# Ghostscript. A file may be of another of these kinds than its name says, as some of ImageNet's.
FORMATS = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}

# The most that is read and decoded: one thread then takes 1.3 GB at worst. Whoever has the memory
# for larger photographs raises them here.
MAX_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000

# Resized to a short side of 256, an image of this ratio has 6 million pixels.
_NARROWEST = 100


class CorruptImage(UapError):
    """A file that cannot be decoded.

    Args:
        sentence: the whole, with what to do where a data set is read.
        reason: what is wrong with the file, alone.
    """

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def read_pixels(
    photograph: Photograph, resize: int | None, smallest: int, square: bool = False
) -> Pixels:
    """Decode one photograph to RGB, upright, with its short side resized: uint8, H x W x 3.

    Of an animation it is the first frame; see :func:`to_rgb` for the kinds of pixels.

    Raises:
        CorruptImage: the file is missing, truncated, no image, too large, or too narrow to resize.
        UapError: the image is too small.
    """
    return prepared(photograph, read_bytes(photograph), resize, smallest, square)


def read_bytes(photograph: Photograph) -> bytes:
    """The bytes of a photograph.

    Raises:
        CorruptImage: they cannot be read, or are more than ``MAX_BYTES``.
    """
    try:
        size = photograph.size()
        if size > MAX_BYTES:
            reason = f"{photograph.name} has {size:,} bytes, more than {MAX_BYTES:,}"
            raise CorruptImage(f"{reason}: scale it down or remove it.", reason)
        return photograph.read()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        reason = f"{photograph.name} cannot be read ({said})"
        raise CorruptImage(f"{reason}: remove it or replace it.", reason) from error


def content_of(data: bytes) -> str:
    """What tells a photograph from others wherever a copy of it lies: the digest of its bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def prepared(
    photograph: Photograph,
    data: bytes,
    resize: int | None,
    smallest: int,
    square: bool,
    upscale: bool = False,
) -> Pixels:
    """:func:`read_pixels` of a photograph whose bytes have been read.

    With ``upscale`` one that is too small is enlarged to a short side of ``smallest``, where there
    is no ``resize``.
    """
    name = photograph.name
    if resize is not None and resize < 1:
        raise UapError(f"resize is {resize}: expected at least 1 pixel.")
    image = _decoded(name, data)
    width, height = image.size
    if min(width, height) < smallest:
        if not upscale:
            raise UapError(
                f"{name} is {width} x {height} pixels, smaller than the crop of {smallest}: remove "
                "it, set data.crop to a smaller size, or set data.upscale=true."
            )
        resize = resize or smallest
    if resize is not None:
        if max(width, height) > _NARROWEST * min(width, height):
            reason = f"{name} is {width} x {height} pixels, sides of a ratio above {_NARROWEST}"
            raise CorruptImage(f"{reason}: crop it or remove it.", reason)
        if resize**2 * max(width, height) > MAX_PIXELS * min(width, height):
            raise UapError(
                f"resize is {resize}, which makes more than {MAX_PIXELS:,} pixels of {name}: "
                "choose a smaller one."
            )
        image = functional.resize(image, resize)
    if square:
        image = functional.center_crop(image, min(image.size))
    return np.ascontiguousarray(np.asarray(image))


def _decoded(name: str, data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=sorted(set(FORMATS.values()))) as file:
            if file.width * file.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            _check_integers(file)
            return to_rgb(ImageOps.exif_transpose(file))
    except UnidentifiedImageError as error:
        reason = f"{name} is not an image"
        raise CorruptImage(
            f"{reason}: remove it, replace it, or leave such files out by data.skip_corrupt=true.",
            reason,
        ) from error
    except Image.DecompressionBombError as error:
        reason = f"{name} has more than {MAX_PIXELS:,} pixels"
        raise CorruptImage(f"{reason}: scale it down or remove it.", reason) from error
    except Exception as error:  # Pillow raises what it likes at a damaged file
        said = " ".join(str(error).split()) or type(error).__name__
        reason = f"{name} cannot be decoded ({said})"
        raise CorruptImage(
            f"{reason}: it may be truncated; remove it, replace it, or leave such files out by "
            "data.skip_corrupt=true.",
            reason,
        ) from error


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
        values = np.asarray(image).clip(0, 65_535)
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _check_integers(file: Image.Image) -> None:
    """Refuse the grey TIFF files whose white is not that of 16 bits: they would turn out black."""
    if isinstance(file, TiffImageFile) and file.mode.startswith("I"):
        bits, kind = (file.tag_v2.get(tag, (1,))[0] for tag in (258, 339))
        if (bits, kind) != (16, 1):
            raise ValueError(f"its pixels are integers of {bits} bits: expected 8 or unsigned 16")
