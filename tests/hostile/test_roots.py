"""Folders to train on and to test on that are none, are one another, or share photographs."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from uap_lightning.data.imagenet_classes import imagenet_wnids

CLASSES = [f"c{number}" for number in range(8)]  # as many as the tiny network has


@pytest.fixture
def folders(tmp_path):
    """Class folders to train on in two places, and class folders to test on."""
    generator = np.random.default_rng(0)
    for place in ("one", "two", "test"):
        for name in CLASSES:
            path = tmp_path / place / name / "x.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    return tmp_path


def crafted(hostile, root, test_root, *more, source="folder", **expected):
    return hostile(
        *("craft", "network=tiny", f"data={source}", f"data.root={root}"),
        *(f"data.test_root={test_root}", "data.crop=32", "data.resize=36", "name=run"),
        *("attack=random_signs", "bank.min_fooling_ratio=0"),
        *("bank.train=1", "bank.test=1", "bank.extended=1", *more),
        **expected,
    )


def test_folders_go_together(folders, hostile):
    crafted(hostile, "[one,two]", "test", expect="ok")
    assert (folders / "outputs/craft/run/split.json").read_text().count("test/c") == 8


@pytest.mark.parametrize("key", ["root", "test_root"])
@pytest.mark.parametrize(
    "value",
    [
        *(
            "missing",
            "file",
            "empty",
            "fifo",
            "/dev/null",
            "loop",
            "''",
            "[]",
            "['']",
            "[one,null]",
        ),
        *("[missing,two]", "[[one]]", "{a: one}", "7", "true", "[7]", "one,two", "/", "~nobody/x"),
        *("[one,one]", "[one,./one]", "[one,one/c3]", "[two,link]", "[test,test/../test]"),
    ],
)
def test_a_value_that_names_no_folders(key, value, folders, hostile):
    (folders / "file").touch()
    (folders / "empty").mkdir()
    os.mkfifo(folders / "fifo")
    (folders / "loop").symlink_to(folders / "loop")
    (folders / "link").symlink_to(folders / "two")
    root, test_root = (value, "test") if key == "root" else ("one", value)
    crafted(hostile, root, test_root, says=["data.root", "data.test_root", f"data.source.{key}"])


@pytest.mark.parametrize("how", ["same", "around", "inside", "link", "of a list"])
def test_test_folders_among_the_training_folders(how, folders, hostile):
    (folders / "link").symlink_to(folders / "one")
    named = {"same": "one", "around": ".", "inside": "one/c1", "link": "link", "of a list": "two"}
    root = "[one,two]" if how == "of a list" else "one"
    crafted(hostile, root, named[how], says=["name each folder once"])


@pytest.mark.parametrize("how", ["copy", "other name", "other class", "linked file", "hard link"])
def test_test_photographs_that_are_trained_on(how, folders, hostile):
    trained = folders / "two" / "c2" / "x.png"
    place = folders / "test" / ("c5" if how == "other class" else "c2") / "y.png"
    if how == "linked file":
        place.symlink_to(trained)
    elif how == "hard link":
        place.hardlink_to(trained)
    else:
        shutil.copy(trained, place.with_name("x.png" if how == "copy" else "y.png"))
    crafted(hostile, "[one,two]", "test", says=["1 of the "])


@pytest.mark.parametrize("how", ["one more", "wnids", "unknown wnid", "also flat"])
def test_test_classes_that_the_network_does_not_have(how, folders, hostile):
    if how == "also flat":
        shutil.copy(folders / "test" / "c0" / "x.png", folders / "test" / "y.png")
    elif how == "one more":
        (folders / "test" / "c8").mkdir()
        Image.new("RGB", (40, 40)).save(folders / "test" / "c8" / "x.png")
    else:
        for place in ("one", "test"):
            for name, wnid in zip(CLASSES, imagenet_wnids(), strict=False):
                (folders / place / name).rename(folders / place / wnid)
        if how == "unknown wnid":
            (folders / "test" / imagenet_wnids()[0]).rename(folders / "test" / "n99999999")
    said = {"one more": "c8, which is not one of", "wnids": "labelled with 1000 classes"}
    said |= {"unknown wnid": "n99999999, which is not one of", "also flat": "beside class folders"}
    crafted(hostile, "one", "test", says=[said[how]])


def test_photographs_of_the_sample_in_front_of_a_network_of_eight_classes(folders, hostile):
    for place in ("one", "test"):
        (folders / place / "c0" / "x.png").rename(folders / f"{place}.png")
        shutil.rmtree(folders / place)
        (folders / place).mkdir()
        (folders / f"{place}.png").rename(folders / place / "n01440764_x.png")
    crafted(hostile, "one", "test", source="imagenet_sample", says=["labelled with 1000 classes"])


@pytest.mark.parametrize("source", ["generated", "photos", "imagenet"])
def test_a_source_without_test_folders(source, hostile, folders):
    words = ("craft", "network=tiny", f"data={source}", "name=run")
    hostile(*words, "data.test_root=test", says=["test_root"])
    hostile(*words, "+data.test_root=test", says=["test_root"])
