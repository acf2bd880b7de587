"""Folders of images of every kind through the guard, one row a file."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.jobs.predicting import save, settings, table
from uap_lightning.core.errors import UapError
from uap_lightning.data.decoding import read_pixels, to_rgb
from uap_lightning.data.photographs import Photograph
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.classify import decoded, files_below, reader, rows
from uap_lightning.jobs.part import COLUMNS
from uap_lightning.jobs.predict import predict


def test_each_row_is_what_the_guard_says_of_the_crop(defense, network, images):
    save(images, 11)
    Path("photos/sub").mkdir()
    Path("photos/007.png").rename("photos/sub/0.png")
    Path("photos/005b.png").write_bytes(Path("photos/005.png").read_bytes()[:200])
    Path("photos/notes.txt").write_text("no image")
    Path("photos/.hidden").write_text("not looked at")
    predict(settings(defense, "batch_size=4", "num_workers=3"))
    found = table()
    names = [f"{i:03}.png" for i in range(11) if i != 7]
    names.insert(6, "005b.png")
    assert [row["file"] for row in found] == [*names, "notes.txt", "sub/0.png"]
    numbers = [0, 1, 2, 3, 4, 5, None, 6, 8, 9, 10, None, 7]
    guard = Guard.load(defense, network)
    for row, number in zip(found, numbers, strict=True):
        if number is None:
            assert row["label"] == row["class"] == row["perturbed"] == row["score"] == ""
            assert "cannot be decoded" in row["error"] or "is not an image" in row["error"]
            assert row["error"].endswith(": replace it or move it elsewhere.")
            continue
        seen = guard.inspect(images.take([number]))
        assert int(row["label"]) == int(seen.logits.argmax())
        assert row["class"] == f"class {row['label']}"
        confidence = float(seen.logits.double().softmax(1).max())
        assert float(row["confidence"]) == pytest.approx(confidence, abs=1e-4)
        assert float(row["score"]) == pytest.approx(float(seen.score), abs=1e-3)
        assert row["perturbed"] == str(bool(seen.perturbed))
        assert row["error"] == ""
    assert {row["perturbed"] for row in found} == {"True", "False", ""}
    assert not list(Path().glob(".found*"))


def test_json_lines_hold_the_same_and_names_of_classes_can_be_given(defense, images):
    save(images, 3)
    Path("photos/bad.jpg").write_bytes(b"no")
    # As some editors save it: with a mark of its encoding in front.
    Path("names.txt").write_text("\n".join("abcdefgh"), encoding="utf-8-sig")
    predict(settings(defense))
    predict(settings(defense, "output=found.jsonl", "class_names=names.txt"))
    lines = [json.loads(line) for line in Path("found.jsonl").read_text().splitlines()]
    assert all(tuple(line) == COLUMNS for line in lines)
    for line, row in zip(lines, table(), strict=True):
        assert line["file"] == row["file"]
        if row["error"]:
            assert line["label"] is line["perturbed"] is line["score"] is None
            continue
        assert line["class"] == "abcdefgh"[line["label"]]
        assert str(line["perturbed"]) == row["perturbed"]
        assert line["confidence"] == pytest.approx(float(row["confidence"]))
    predict(settings(defense, "images=photos/001.png", "output=one.jsonl"))
    one = json.loads(Path("one.jsonl").read_text())
    assert one["file"] == "001.png"
    # alone in its batch, so that the last digits may differ
    assert one["score"] == pytest.approx(lines[1]["score"], abs=1e-3)


def kinds(folder):
    """One picture as files of many kinds; what each should look like, upright, in RGB."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    rgb = np.asarray(Image.fromarray(coarse).resize((50, 60), Image.Resampling.BICUBIC))
    picture, grey = Image.fromarray(rgb), Image.fromarray(rgb).convert("L")
    grey_rgb = np.stack([np.asarray(grey)] * 3, -1)
    wide = np.asarray(grey).astype(np.uint16) * 257
    folder.mkdir()
    expected = {}

    def put(name, image, pixels, **options):
        image.save(folder / name, **options)
        expected[name] = pixels

    put("rgb.png", picture, rgb)
    put("grey.png", grey, grey_rgb)
    put("sixteen.png", Image.fromarray(wide), grey_rgb)
    put("sixteen.tif", Image.fromarray(wide), grey_rgb)
    put("cmyk.tif", picture.convert("CMYK"), rgb)
    half = np.where(np.arange(50)[None, :, None] < 25, 255, 0)
    alpha = Image.fromarray(np.concatenate([rgb, half.repeat(60, 0)], 2).astype(np.uint8))
    put("alpha.png", alpha, np.where(half > 0, rgb, 255))
    frames = [picture, Image.new("RGB", picture.size, "red")]
    put("animated.png", frames[0], rgb, save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    put("turned.tif", picture.transpose(Image.Transpose.ROTATE_90), rgb, exif=exif)
    put("palette.gif", picture.quantize(256), np.asarray(picture.quantize(256).convert("RGB")))
    return expected


def test_images_of_every_kind_come_out_as_rgb():
    for name, pixels in kinds(Path("kinds")).items():
        found = read_pixels(Photograph(str(Path("kinds") / name), None), resize=None, smallest=1)
        assert found.dtype == np.uint8
        assert found.shape == (60, 50, 3), name
        assert np.abs(found.astype(int) - pixels).max() <= 1, name


def test_images_of_every_kind_and_size_have_a_row(defense):
    kinds(Path("photos"))
    for width, height in ((3, 500), (1, 1), (700, 33), (32, 32)):
        Image.new("RGB", (width, height), (9, 99, 200)).save(f"photos/{width}.bmp")
    Image.fromarray(np.zeros((9, 9), dtype=np.float32)).save("photos/floats.tif")
    predict(settings(defense, "batch_size=3"))
    errors = {row["file"]: row["error"] for row in table() if row["error"]}
    assert len(table()) == 14
    assert set(errors) == {"3.bmp", "floats.tif"}
    assert "3 x 500 pixels, sides of a ratio above 100" in errors["3.bmp"]
    assert "floats" in errors["floats.tif"]


def test_wide_integers_are_cut_at_sixteen_bits():
    values = np.array([[0, 255, 65_535, 70_000, -5]], dtype=np.int32)
    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 0, 255, 255, 0]


def test_the_short_side_is_that_of_training_unless_told(defense, network, images):
    guard = Guard.load(defense, network)
    Path("photos").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (96, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photos/a.png")
    for resize, short in ((None, 40), (96, 96), (32, 32)):
        crop = reader(guard, resize)(Path("photos/a.png"))
        assert crop.shape == (32, 32, 3)
        size = (round(short * 120 / 96), short)
        whole = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        top, left = (short - 32) // 2, (size[0] - 32) // 2
        assert np.array_equal(crop, whole[top : top + 32, left : left + 32])
    with pytest.raises(UapError, match="resize is 31: expected at least 32"):
        reader(guard, 31)
    with pytest.raises(UapError, match="resize is 0: expected at least 32"):
        reader(guard, 0)
    guard.defense.condition["resize"] = 10**6
    with pytest.raises(UapError, match="resize is 1000000"):
        reader(guard, None)
    del guard.defense.condition["resize"]
    assert reader(guard, None).keywords["short"] == 37


def test_memory_does_not_grow_with_the_folder(defense, network, images):
    """What is allocated while 40 and while 400 files go through differs by less than one batch."""
    guard = Guard.load(defense, network)
    save(images, 40)
    for i in range(40, 400):
        os.link(f"photos/{i % 40:03}.png", f"photos/{i:03}.png")
    names = ["a"] * 8

    def peak(count):
        for path in list(files_below(Path("photos")))[count:]:
            path.unlink()
        tracemalloc.start()
        found = sum(1 for _ in rows(guard, Path("photos"), reader(guard, None), names, 8, 2))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == count
        return size

    peak(400)
    large, small = peak(400), peak(40)
    assert large - small < 8 * 3 * 40 * 40 * 4


def test_only_a_few_batches_are_decoded_ahead(images):
    save(images, 30)
    done = []

    def read(path):
        done.append(path)
        return np.zeros((1, 1, 3), dtype=np.uint8)

    batches = decoded(files_below(Path("photos")), read, batch_size=3, workers=2)
    assert [path.name for path, _ in next(batches)] == ["000.png", "001.png", "002.png"]
    assert len(done) <= 9
    assert sum(len(batch) for batch in batches) == 27


def test_pipes_and_links_to_nothing_are_passed_over(defense, images):
    save(images, 1)
    os.mkfifo("photos/pipe.png")
    Path("photos/link.png").symlink_to("nowhere.png")
    predict(settings(defense))
    errors = {row["file"]: row["error"] for row in table()}
    assert errors.pop("000.png") == ""
    assert ["is not a file" in error for error in errors.values()] == [True, True]


def test_a_link_to_a_name_that_no_file_can_have_is_one_row(defense, images):
    save(images, 2)
    Path("photos/link.png").symlink_to("n" * 300)
    predict(settings(defense))
    errors = {row["file"]: row["error"] for row in table()}
    assert "File name too long" in errors.pop("link.png")
    assert set(errors.values()) == {""}


def test_a_file_that_exists_is_kept_unless_told(defense, images):
    save(images, 1)
    Path("found.csv").write_text("mine")
    with pytest.raises(UapError, match=r"found\.csv exists"):
        predict(settings(defense))
    assert Path("found.csv").read_text() == "mine"
    predict(settings(defense, "overwrite=true"))
    assert len(table()) == 1


def test_what_another_process_finished_meanwhile_is_kept(defense, images, monkeypatch):
    save(images, 1)
    load = Guard.load

    def slow(*given):
        Path("found.csv").write_text("theirs")
        return load(*given)

    monkeypatch.setattr(Guard, "load", slow)
    with pytest.raises(UapError, match=r"found\.csv exists"):
        predict(settings(defense))
    assert sorted(p.name for p in Path().iterdir()) == ["defense", "found.csv", "photos"]
    assert Path("found.csv").read_text() == "theirs"


def test_no_cell_is_a_formula(defense, images):
    """As a spreadsheet reads it: text of others begins with none of the characters that compute."""
    first = "=+-@\t\r\n"
    save(images, len(first))
    for i, character in enumerate(first):
        Path(f"photos/{i:03}.png").rename(f"photos/{character}cmd|' &calc'!A{i}.png")
    for name in ("=SUM(1)", " =1+1", "\x1b[31m=1+1", "\uff1d1+1"):
        Path(f"photos/{name}.txt").write_text("none")
    Path("names.txt").write_text("\n".join(f"{c}1+1" for c in "=+-@=+-@"))
    predict(settings(defense, "class_names=names.txt"))
    found = table()
    assert len(found) == len(first) + 4
    for row in found:
        for key in ("file", "class", "error"):
            assert not row[key].startswith(tuple(first)), row
    assert sorted(row["file"] for row in found) == sorted(
        f"'{path.name}" for path in Path("photos").iterdir()
    )
    # numbers stay numbers, and JSON Lines keep the names as they are
    assert any(float(row["score"]) < 0 for row in found if row["score"])
    predict(settings(defense, "class_names=names.txt", "output=found.jsonl"))
    lines = [json.loads(line) for line in Path("found.jsonl").read_text().splitlines()]
    assert {line["file"] for line in lines} == {path.name for path in Path("photos").iterdir()}


def test_names_that_are_no_text_are_kept(defense, images):
    save(images, 1)
    os.rename(b"photos/000.png", b"photos/\xff,\n.png")  # noqa: PTH104 - bytes
    predict(settings(defense))
    predict(settings(defense, "output=found.jsonl"))
    assert b"\xff,\n.png" in Path("found.csv").read_bytes()
    line = json.loads(Path("found.jsonl").read_text())
    assert os.fsencode(line["file"]) == b"\xff,\n.png"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["images=nowhere"], "images is nowhere, which does not exist"),
        (["images=empty"], "holds no file"),
        (["output=photos/sub/found.csv"], "a file among the images"),
        (["output=found.txt"], r"ends in \.csv or \.jsonl"),
        (["batch_size=0"], "batch_size is 0"),
        (["num_workers=0"], "num_workers is 0"),
        (["resize=20"], "resize is 20"),
        (["resize=0"], "resize is 0: expected at least 1"),
        (["resize=-3"], r"resize is -3: expected at least 1\."),
        (["resize=1000000"], "resize is 1000000: .* at most 4096"),
        (["class_names=missing.txt"], "cannot be read"),
        (["class_names=photos/000.png"], "class_names"),
        (["class_names=three.txt"], "has 3 lines: expected 8"),
        (["defense=nowhere"], "nowhere"),
    ],
)
def test_bad_settings_are_refused(defense, images, overrides, said):
    save(images, 1)
    Path("empty").mkdir()
    Path("three.txt").write_text("a\nb\nc\n")
    with pytest.raises(UapError, match=said):
        predict(settings(defense, *overrides))
    assert not Path("found.csv").exists()


def test_values_that_are_not_finite_are_no_answer(defense, network, images):
    guard = Guard.load(defense, network)
    guard.network.mean[:] = torch.nan
    save(images, 2)
    found = list(rows(guard, Path("photos"), reader(guard, None), ["a"] * 8, 2, 1))
    assert ["not finite" in str(row["error"]) for row in found] == [True, True]
