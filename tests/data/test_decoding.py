"""Image files of every kind, whole and hostile."""

import io
import math
import os
import re
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

from uap_lightning.core.errors import UapError
from uap_lightning.data.cache import decode_once
from uap_lightning.data.decoding import MAX_BYTES, CorruptImage, read_pixels
from uap_lightning.data.photographs import Photograph


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    pixels = np.full((20, 24, 3), 90, dtype=np.uint8)
    path = tmp_path / "image.tif"
    Image.fromarray(pixels).convert(mode).save(path)
    found = read_pixels(Photograph(str(path), None), None, 8)
    assert found.shape == (20, 24, 3)
    assert abs(int(found.mean()) - 90) < 5


def test_a_rotated_photograph_stands_upright(tmp_path):
    image = Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "r.jpg", exif=exif)
    assert read_pixels(Photograph(str(tmp_path / "r.jpg"), None), None, 8).shape == (30, 20, 3)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of(width, height, kind, depth=8):
    """A PNG of zeros of any size, without ever having its pixels."""
    channels = {0: 1, 2: 3, 6: 4}[kind]
    row = bytes(1 + width * channels * depth // 8)
    packer = zlib.compressobj(9)
    data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])

    def chunk(name, content):
        code = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + code

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    )


def odd_files():
    """Files by name: bytes, and what is said of each; None where it is an image."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    rgb = Image.fromarray(noise)
    grey = rgb.convert("L")
    jpeg, png = encoded(rgb, "JPEG"), encoded(rgb, "PNG")
    slow = encoded(rgb, "JPEG", progressive=True)
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    long = Image.fromarray(np.asarray(grey).astype(np.int32))
    palette = rgb.quantize(16)
    turned = Image.Exif()
    turned[0x0112] = 6
    cannot, not_image = "cannot be decoded", "is not an image"
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    bad = {f"cut{at}.jpg": (jpeg[:at], "") for at in (1, 2, 10, 100, 300, len(jpeg) // 2)}
    bad |= {f"cut{at}.png": (png[:at], "") for at in (1, 8, 20, 33, 50, len(png) // 2)}
    good = {
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "wide.png": encoded(wide, "PNG"),
        "wide.tif": encoded(wide, "TIFF"),
        "clear.png": encoded(palette, "PNG", transparency=3),
        "shades.png": encoded(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "animated.png": encoded(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)]),
        "frames.webp": encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]),
        "mpo.jpg": encoded(rgb, "MPO", save_all=True, append_images=[rgb.rotate(90)]),
        "profile.jpg": encoded(rgb, "JPEG", icc_profile=b"no profile" * 50),
        "profile.png": encoded(rgb, "PNG", icc_profile=b"no profile" * 50),
        "turned.jpg": encoded(rgb, "JPEG", exif=turned),
        "exif.jpg": encoded(rgb, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        "exif2.jpg": encoded(rgb, "JPEG", exif=b"Exif\0\0" + b"\xff" * 40),
        "bits.png": encoded(rgb.convert("1"), "PNG"),
        "alpha.png": encoded(rgb.convert("RGBA"), "PNG"),
        "grey_alpha.png": encoded(grey.convert("LA"), "PNG"),
        "lab.tif": encoded(rgb.convert("LAB"), "TIFF"),
        "one.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
        "strip.png": encoded(Image.new("RGB", (1, 60)), "PNG"),
        "is_png.jpg": png,
        "trailing.jpg": jpeg + b"<script>" * 99,
        "ten_bits.ppm": b"P5 2 2 1023\n" + struct.pack(">4H", 0, 511, 1023, 1023),
        "white\nline.png": png,
        "\udcff.png": png,
    }
    return (
        bad
        | {
            "empty.jpg": (b"", not_image),
            "zeros.png": (bytes(5000), not_image),
            "random.jpg": (noise.tobytes(), not_image),
            "html.jpg": (b"<!doctype html><title>Not found</title>", not_image),
            "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", not_image),
            "photo.jpg": (postscript, not_image),
            "pickle.png": (b"\x80\x04cos\nsystem\n(S'true'\ntR.", not_image),
            "cut_slow.jpg": (slow[: len(slow) // 2], cannot),
            "float.tif": (
                encoded(Image.fromarray(noise[..., 0].astype(np.float32)), "TIFF"),
                "floats",
            ),
            "long.tif": (encoded(long, "TIFF"), "integers of 32 bits"),
            "float.pfm.ppm": (
                b"Pf 2 2 -1.0\n" + struct.pack("<4f", 0, 1, math.nan, math.inf),
                "floats",
            ),
            "huge.png": (png_of(9000, 9000, 0), "more than 64,000,000 pixels"),
            "bomb.png": (png_of(200_000, 1000, 0), "more than 64,000,000 pixels"),
            "endless.tif": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", ""),
            "ratio.png": (encoded(Image.new("RGB", (1, 500)), "PNG"), "sides of a ratio above 100"),
            "negative.bmp": (
                b"BM" + struct.pack("<IIIIiiHHIIiiII", 9, 0, 54, 40, -9, 9, 1, 24, *[0] * 6),
                "",
            ),
        }
        | {name: (data, None) for name, data in good.items()}
    )


ODD = odd_files()


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_an_odd_file_is_an_image_or_one_sentence(tmp_path, name):
    data, said = ODD[name]
    path = tmp_path / name
    path.write_bytes(data)
    photograph = Photograph(str(path), None)
    if said is None:
        pixels = read_pixels(photograph, 32, 1)
        assert pixels.dtype == np.uint8
        assert min(pixels.shape[:2]) == 32
        assert pixels.shape[2] == 3
        if "one" not in name and "strip" not in name:
            assert pixels.std() > 5, "it turned black, or white"
        return
    with pytest.raises(CorruptImage, match=re.escape(said)) as caught:
        read_pixels(photograph, 32, 1)
    assert name in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    # The same, of a data set that leaves such files out.
    whole = tmp_path / "whole.png"
    whole.write_bytes(ODD["alpha.png"][0])
    photographs = [photograph, Photograph(str(whole), None)]
    cache = decode_once(photographs, 32, 1, tmp_path / "cache", skip_corrupt=True)
    assert cache.skipped == [0]


def test_what_is_no_file_is_told_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    names = ["pipe.jpg", "folder.jpg", "link.jpg", "circle.jpg", "zero.jpg", "x" * 300, "a\0b"]
    for name in names:
        with pytest.raises(CorruptImage, match="cannot be read"):
            read_pixels(Photograph(str(tmp_path / name), None), 32, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(ODD["alpha.png"][0])
    path.chmod(0)
    with pytest.raises(CorruptImage, match="Permission denied"):
        read_pixels(Photograph(str(path), None), 32, 1)


def test_ghostscript_is_never_started(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **_: started.append(arguments))
    for name in ("a.jpg", "b.eps"):
        (tmp_path / name).write_bytes(ODD["photo.jpg"][0])
        with pytest.raises(CorruptImage):
            read_pixels(Photograph(str(tmp_path / name), None), 32, 1)
    assert not started


def test_bytes_are_counted_before_they_are_read(tmp_path):
    with (tmp_path / "a.bmp").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CorruptImage, match=r"a\.bmp has 268,435,457 bytes, more than 268,435,456"):
        read_pixels(Photograph(str(tmp_path / "a.bmp"), None), 32, 1)
    member = Photograph(str(tmp_path / "a.bmp"), None, "b.bmp", 0, 2**60)
    with pytest.raises(CorruptImage, match=r"a\.bmp:b\.bmp has .* bytes, more than"):
        read_pixels(member, 32, 1)


@pytest.mark.parametrize("resize", [0, -3, 10**6])
def test_a_size_that_cannot_be_is_refused(tmp_path, resize):
    (tmp_path / "a.png").write_bytes(ODD["alpha.png"][0])
    with pytest.raises(UapError, match=f"resize is {resize}"):
        read_pixels(Photograph(str(tmp_path / "a.png"), None), resize, 1)


def test_ten_bits_span_the_whole_range(tmp_path):
    (tmp_path / "a.ppm").write_bytes(ODD["ten_bits.ppm"][0])
    found = read_pixels(Photograph(str(tmp_path / "a.ppm"), None), None, 1)
    assert found[..., 0].tolist() == [[0, 127], [255, 255]]
