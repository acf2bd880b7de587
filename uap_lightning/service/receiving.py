"""From the body of a request to pixels, or to the status that says why not."""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
from fastapi import HTTPException
from PIL import Image, UnidentifiedImageError

from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import central
from uap_lightning.data.decoding import CorruptImage, Pixels, prepared
from uap_lightning.data.photographs import Photograph

_ARRAY = b"\x93NUMPY"
_FORMATS = ("JPEG", "PNG")
_SENT = Photograph("the image", None)


@dataclass(frozen=True)
class Receiver:
    """What is taken from a request.

    Attributes:
        size: side of the images that the guard takes.
        short: short side before the centre crop.
        most_bytes: of a body.
        most_pixels: of an image before it is resized.
    """

    size: int
    short: int
    most_bytes: int
    most_pixels: int

    async def read(self, body: AsyncIterator[bytes], length: str | None) -> bytes:
        """A body, which is not read on once it is too long.

        Args:
            body: in parts.
            length: what the header says of it.

        Raises:
            HTTPException: 413, it is too long; 400, it is empty.
        """
        said = f"the body has more than {self.most_bytes:,} bytes: scale the image down."
        if length is not None and length.isdecimal() and int(length) > self.most_bytes:
            raise HTTPException(413, said)
        parts, count = [], 0
        async for part in body:
            count += len(part)
            if count > self.most_bytes:
                raise HTTPException(413, said)
            parts.append(part)
        if not count:
            raise HTTPException(400, "the body is empty: send the bytes of one image.")
        return b"".join(parts)

    def pixels(self, body: bytes) -> Pixels:
        """The pixels that the guard takes: uint8, size x size x 3.

        A JPEG or PNG file is resized and cropped as in ``predict``; an array in NumPy's file format
        is taken as it is.

        Raises:
            HTTPException: 415, it is none of these; 413, it has too many pixels; 422, it cannot be
                decoded, or the array has another shape or type.
        """
        if body.startswith(_ARRAY):
            return self._array(body)
        try:
            with Image.open(io.BytesIO(body), formats=_FORMATS) as image:
                width, height = image.size
        except UnidentifiedImageError as error:
            said = "the body is no image: expected a JPEG or PNG file, or an array as .npy."
            raise HTTPException(415, said) from error
        except Image.DecompressionBombError as error:
            said = f"the image has more than {self.most_pixels:,} pixels."
            raise HTTPException(413, said) from error
        except Exception as error:  # Pillow raises what it likes at a damaged file
            raise HTTPException(422, f"the image cannot be decoded ({error}).") from error
        if width * height > self.most_pixels:
            said = f"the image has {width} x {height} pixels, more than {self.most_pixels:,}."
            raise HTTPException(413, said)
        try:
            upright = prepared(_SENT, body, self.short, 1, square=False)
        except CorruptImage as error:
            raise HTTPException(422, f"{error.reason}.") from error
        except UapError as error:
            raise HTTPException(422, str(error)) from error
        return central(upright, self.size)

    def _array(self, body: bytes) -> Pixels:
        try:
            array = np.load(io.BytesIO(body), allow_pickle=False)
        except Exception as error:  # NumPy raises what it likes at a damaged file
            raise HTTPException(422, f"the array cannot be read ({error}).") from error
        shape = (self.size, self.size, 3)
        if array.dtype != np.uint8 or array.shape != shape:
            raise HTTPException(
                422,
                f"the array is {array.dtype} of shape {array.shape}: expected uint8 of shape "
                f"{shape}, RGB.",
            )
        return np.ascontiguousarray(array)
