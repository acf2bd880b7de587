"""What a request's body becomes."""

import asyncio
import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from fastapi import HTTPException
from PIL import Image

from uap_lightning.jobs.classify import _read_crop
from uap_lightning.service.receiving import Receiver

RECEIVER = Receiver(size=32, short=40, most_bytes=10_000, most_pixels=5_000)


def image(size=(60, 50), mode="RGB"):
    values = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def encoded(picture, kind="PNG"):
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def array(values, **settings):
    buffer = io.BytesIO()
    np.save(buffer, values, **settings)
    return buffer.getvalue()


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.jpg", "no image")
    return buffer.getvalue()


def huge():
    """The head of a PNG of 60,000 x 60,000 pixels."""
    file = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(b"0" * 100))):
        check = struct.pack(">I", zlib.crc32(kind + content))
        file += struct.pack(">I", len(content)) + kind + content + check
    return file


async def parts_of(*parts):
    for part in parts:
        yield part


def read(receiver, *parts, length=None):
    return asyncio.run(receiver.read(parts_of(*parts), length))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_is_resized_and_cropped_as_predict_does(kind, tmp_path):
    body = encoded(image(), kind)
    (tmp_path / "a").write_bytes(body)
    assert np.array_equal(RECEIVER.pixels(body), _read_crop(tmp_path / "a", 32, 40))


def test_an_array_is_taken_as_it_is():
    values = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    assert np.array_equal(RECEIVER.pixels(array(values)), values)
    assert np.array_equal(RECEIVER.pixels(array(np.asfortranarray(values))), values)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (zipped(), 415, "no image"),
        (b"hello", 415, "no image"),
        (encoded(image(), "BMP"), 415, "no image"),
        (encoded(image())[:300], 422, "cannot be decoded"),
        (encoded(image())[:20], 422, "cannot be decoded"),
        (encoded(image((80, 70))), 413, "80 x 70 pixels, more than 5,000"),
        (huge(), 413, "more than 5,000 pixels"),
        (encoded(image((4_000, 1))), 422, "sides of a ratio"),
        (array(np.zeros((32, 32), np.uint8)), 422, "uint8 of shape (32, 32)"),
        (array(np.zeros((32, 32, 3))), 422, "float64 of shape"),
        (array(np.zeros((32, 32, 3), np.uint8))[:200], 422, "cannot be read"),
        (array(np.array([{}], object), allow_pickle=True), 422, "cannot be read"),
    ],
)
def test_what_is_no_image_has_a_status_and_a_sentence(body, status, said):
    with pytest.raises(HTTPException) as raised:
        RECEIVER.pixels(body)
    assert raised.value.status_code == status
    assert said in raised.value.detail


def test_a_body_is_read_whole_and_no_further_than_it_may_be_long():
    assert read(RECEIVER, b"ab", b"", b"c") == b"abc"
    assert len(read(RECEIVER, b"a" * 5_000, b"b" * 5_000, length="10000")) == 10_000
    with pytest.raises(HTTPException) as raised:
        read(RECEIVER)
    assert raised.value.status_code == 400

    async def endless():
        while True:
            taken.append(1)
            yield b"a" * 4_000

    taken = []
    with pytest.raises(HTTPException) as raised:
        asyncio.run(RECEIVER.read(endless(), None))
    assert (raised.value.status_code, len(taken)) == (413, 3)
    taken.clear()
    with pytest.raises(HTTPException) as raised:
        asyncio.run(RECEIVER.read(endless(), "2000000000"))
    assert (raised.value.status_code, len(taken)) == (413, 0)
