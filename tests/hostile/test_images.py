"""Files among the images that are none, or that mean harm."""

import csv
import io
import os
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.hostile.keys import words

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))


def encoded(form, image=PICTURE, **options):
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def bomb(side, depth=1, colour=0):
    """A PNG of side x side zeros: a few kilobytes for every gigabyte."""
    squeezed = zlib.compressobj(9)
    row = b"\0" * (1 + side * depth * (3 if colour == 2 else 1) // 8)
    data = b"".join(squeezed.compress(row) for _ in range(side)) + squeezed.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def text_bomb():
    """A PNG whose compressed text unpacks to 500 MB."""
    png = encoded("PNG")
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 500_000_000, 9))
    return png[:33] + text + png[33:]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n(out) (w) file closefile\nshowpage\n"
PPM = b"P6 100000 100000 255\n"
# Contents that must not be taken for an image, and whether Pillow might rightly read them.
BROKEN = {
    **{"empty": b"", "text": b"no image", "zeros": b"\0" * 1000, "eps": EPS, "ppm": PPM},
    **{"half png": encoded("PNG")[:900], "half jpeg": encoded("JPEG")[:300]},
    **{"no pixels": encoded("PNG")[:33], "bad sum": encoded("PNG").replace(b"IDAT", b"IDAX")},
    **{"svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "pdf": b"%PDF-1.4\n"},
    **{"pickle": b"\x80\x04\x95", "psd": b"8BPS\0\1" + b"\0" * 40, "fits": b"SIMPLE  = T"},
    **{"html": b"<html>", "zip": b"PK\x03\x04" + b"\0" * 50},
}
BOMBS = {
    **{"one bit": lambda: bomb(30_000), "eight bits": lambda: bomb(20_000, 8)},
    **{"colour": lambda: bomb(12_000, 8, 2), "text": text_bomb, "wide": lambda: wide()},
    **{"tiff": lambda: encoded("TIFF", Image.new("1", (30_000, 30_000)), compression="group4")},
    **{"gif": lambda: encoded("GIF", Image.new("L", (16_000, 16_000)))},
}
READ = {
    **{"grey": ("PNG", "L"), "palette": ("GIF", "P"), "alpha": ("PNG", "RGBA")},
    **{
        "cmyk": ("JPEG", "CMYK"),
        "bits": ("PNG", "1"),
    },
    **{"sixteen": ("PNG", "I;16"), "lab": ("TIFF", "LAB"), "webp": ("WEBP", "RGB")},
}


def wide():
    squeezed = zlib.compress(b"\0" * 3_000_001, 9)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1_000_000, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", squeezed) + chunk(b"IEND", b"")


@pytest.fixture
def images(tmp_path):
    """A folder with a sound image first and last."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "z.png"):
        (folder / name).write_bytes(encoded("PNG"))
    return folder


def predict(hostile, material, images, wrong, memory=3 << 30, **settings):
    """Every file has a row; those of ``wrong`` say why they are not read."""
    done = hostile(
        "predict",
        *words("predict", material, f"images={images}"),
        expect="ok",
        memory=memory,
        **settings,
    )
    path = images.parent / "out.csv"
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert {name for name, row in rows.items() if row["error"]} == set(wrong)
    assert all(rows[name]["label"] for name in ("a.png", "z.png"))
    for row in rows.values():
        for cell in row.values():
            assert not cell.startswith(("=", "@", "+")), cell
    return done


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_file_that_is_no_image(how, suffix, images, hostile, material):
    (images / f"b.{suffix}").write_bytes(BROKEN[how])
    predict(hostile, material, images, [f"b.{suffix}"])


@pytest.mark.parametrize("how", BOMBS)
def test_a_small_file_of_a_large_image(how, images, hostile, material):
    """It is refused before it is decoded, or decoded in the memory that there is."""
    (images / "b.png").write_bytes(BOMBS[how]())
    more = [f"images={images}", "num_workers=2"]
    hostile("predict", *words("predict", material, *more), expect="ok", memory=2 << 30)
    text = (images.parent / "out.csv").read_text()
    assert "MemoryError" not in text
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize("how", READ)
def test_an_image_of_another_kind_is_read(how, images, hostile, material):
    form, mode = READ[how]
    if mode == "LAB":
        picture = Image.fromarray(np.full((40, 40, 3), 128, np.uint8), "LAB")
    else:
        grey = mode == "I;16"  # these are made of grey ones alone
        picture = (PICTURE.convert("L") if grey else PICTURE).convert(mode)
    (images / "b.img").write_bytes(encoded(form, picture))
    predict(hostile, material, images, [])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_an_image_whose_white_nobody_knows_is_not_read(mode, images, hostile, material):
    (images / "b.tif").write_bytes(encoded("TIFF", PICTURE.convert("L").convert(mode)))
    predict(hostile, material, images, ["b.tif"])


@pytest.mark.parametrize("how", ["fifo", "folder", "loop", "nowhere", "/dev/zero", "/dev/urandom"])
def test_a_name_that_is_no_file(how, images, hostile, material):
    path = images / "b.png"
    if how == "fifo":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path)
    else:
        path.symlink_to("/nowhere/at/all" if how == "nowhere" else how)
    predict(hostile, material, images, [] if how == "folder" else ["b.png"])


NAMES = (
    *("=cmd.png", "+1.png", "@x.png", "-1.png", "[red]b.png", "<b>.png", "a\nb.png", "é.png"),
    *("b\udcff.png", "\x1b[31m.png", "b'.png", 'b".png', "b,c.png", "b" * 240 + ".png", " .png"),
)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("sound", [True, False], ids=["sound", "broken"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_an_odd_name(name, sound, suffix, images, hostile, material, tmp_path):
    (images / name).write_bytes(encoded("PNG") if sound else b"")
    hostile(
        "predict",
        *words("predict", material, f"images={images}", f"output=o.{suffix}"),
        expect="ok",
    )
    if suffix == "csv":
        content = (tmp_path / "o.csv").read_text(encoding="utf-8", errors="surrogateescape")
        for row in csv.reader(io.StringIO(content, newline="")):
            assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row)
            assert not row[0].startswith("-")


SEEN = [*BROKEN, "fifo", "loop", "/dev/zero", "one bit", "colour"]


@pytest.mark.parametrize("skip", [True, False], ids=["skipped", "refused"])
@pytest.mark.parametrize("how", SEEN)
def test_photographs_to_craft_on_that_are_none(how, skip, hostile, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    generator = np.random.default_rng(1)
    for number in range(12):
        pixels = generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    path = folder / "odd.png"
    if how in BROKEN:
        path.write_bytes(BROKEN[how])
    elif how in BOMBS:
        path.write_bytes(BOMBS[how]())
    elif how == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path if how == "loop" else how)
    hostile(
        *("craft", "network=tiny", "data=folder", f"data.root={folder}", "data.crop=32"),
        *("data.resize=36", "name=run", "attack=random_signs", "bank.min_fooling_ratio=0"),
        *("bank.train=1", "bank.test=1", "bank.extended=1", f"data.skip_corrupt={skip}"),
        expect="either",
        memory=3 << 30,
    )


def tar(members, path):
    with tarfile.open(path, "w") as file:
        for name, content, size in members:
            head = tarfile.TarInfo(name)
            head.size = len(content)
            file.addfile(head, io.BytesIO(content))
            if size is not None:  # a header that promises more than there is
                file.fileobj.seek(0)
                head.size = size
                file.fileobj.write(head.tobuf())
    return path


@pytest.mark.parametrize(
    "how",
    [
        *("text", "empty", "zeros", "half", "promise", "fifo", "/dev/zero", "folder", "gzip"),
        *("escape", "bomb", "sparse", "many", "names"),
    ],
)
def test_a_tar_file_that_means_harm(how, hostile, tmp_path):
    path = tmp_path / "images.tar"
    name, image = "ILSVRC2012_val_00000001.JPEG", encoded("JPEG")
    devkit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    devkit.mkdir(parents=True)
    (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n3\n")
    if how in ("text", "empty", "zeros"):
        path.write_bytes({"text": b"no tar", "empty": b"", "zeros": b"\0" * 10240}[how])
    elif how == "half":
        path.write_bytes(tar([(name, image, None)], path).read_bytes()[:700])
    elif how == "promise":
        tar([(name, image, 2**40)], path)
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "/dev/zero":
        path.symlink_to("/dev/zero")
    elif how == "folder":
        path.mkdir()
    elif how == "gzip":
        import gzip

        path.write_bytes(gzip.compress(b"\0" * 200_000_000))
    elif how == "escape":
        tar([(f"../../{name}", image, None)], path)
    elif how == "bomb":
        tar([(name, bomb(30_000), None)], path)
    elif how == "sparse":
        with path.open("wb") as file:
            file.truncate(2**40)
    elif how == "many":
        tar([(f"ILSVRC2012_val_{n:08}.JPEG", b"", None) for n in range(1, 20_000)], path)
    else:
        tar([("[red]\x1b[31m.JPEG", image, None)], path)
    done = hostile(
        *("craft", "network=tiny", "data=imagenet", f"data.root={path}", "data.source.images=null"),
        *("data.num_workers=0", "name=run", "attack=random_signs"),
        memory=3 << 30,
    )
    assert "\x1b" not in done.said
