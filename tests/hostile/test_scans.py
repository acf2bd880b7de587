"""Folders to scan that mean harm: files that are no image, patterns that are none."""

import csv
import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from tests.hostile.keys import words
from tests.hostile.test_images import BOMBS, BROKEN, NAMES, encoded
from uap_lightning.streams.store import PatternStore


@pytest.fixture
def images(material, tmp_path):
    return shutil.copytree(material / "scenes", tmp_path / "images")


def scan(hostile, material, images, *more, expect="ok", **settings):
    given = words("scan", material, f"images={images}", *more)
    return hostile("scan", *given, expect=expect, **settings)


def rows(images):
    path = images.parent / "out" / "files.csv"
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("how", [*BROKEN, *BOMBS])
def test_a_file_that_is_no_image_or_too_large_a_one(how, images, hostile, material):
    made = BROKEN.get(how) or BOMBS.get(how, bytes)
    (images / "b.png").write_bytes(made if isinstance(made, bytes) else made())
    scan(hostile, material, images, "num_workers=2", memory=4 << 30)
    found = rows(images)
    assert len(found) == 15
    assert not any(row["error"] for name, row in found.items() if name != "b.png")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_an_odd_name(name, images, hostile, material):
    (images / name).write_bytes(encoded("PNG"))
    scan(hostile, material, images, "clean=true")
    for row in rows(images).values():
        assert not row["file"].startswith(("=", "+", "@", "-", "\t", "\r"))


def damaged(place, how):
    good = PatternStore(place, 64).add(torch.ones(3, 64, 64), "good", "x", {})
    bad = place / "bad.safetensors"
    if how == "cut":
        bad.write_bytes(good.read_bytes()[:-9])
    elif how == "pickle":
        bad.write_bytes(b"\x80\x04\x95")
    elif how == "folder":
        bad.mkdir()
    elif how == "/dev/zero":
        bad.symlink_to(how)
    elif how == "no record":
        save_file({"rho": torch.ones(3, 64, 64)}, bad)
    elif how == "odd record":
        save_file({"rho": torch.ones(3, 64, 64)}, bad, {"record": json.dumps({"p": "[" * 999})})
    else:
        value = {"nan": float("nan"), "huge": 1e30, "zero": 0.0}[how]
        PatternStore(place, 64).add(torch.full((3, 64, 64), value), "bad", "x", {})


HOW = ("cut", "pickle", "folder", "/dev/zero", "no record", "odd record", "nan", "huge", "zero")


@pytest.mark.parametrize("how", HOW)
def test_a_folder_of_patterns_that_holds_something_else(how, images, hostile, material, tmp_path):
    damaged(tmp_path / "known", how)
    done = scan(hostile, material, images, f"known={tmp_path / 'known'}")
    assert ("It is left out." in done.said) == (how != "zero")
    assert not any(row["pattern"] for row in rows(images).values())
