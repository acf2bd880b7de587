"""Folders of images, flat or a class each."""

import os
from pathlib import Path

import pytest

from tests.tiny import write_images
from uap_lightning.core.errors import UapError
from uap_lightning.data.folder import files_below, image_folder, list_images


def test_a_folder_that_is_no_collection_is_told(tmp_path):
    with pytest.raises(UapError, match=r"data\.root is not set.*experiment=quickstart"):
        image_folder(None, 0.2, 0)
    with pytest.raises(UapError, match="which is not a folder"):
        image_folder(str(tmp_path / "missing"), 0.2, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UapError, match="holds no image"):
        image_folder(str(tmp_path / "empty"), 0.2, 0)
    folder = write_images(tmp_path / "mixed")
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(UapError, match=r"notes\.txt is not an image file"):
        image_folder(str(folder), 0.2, 0)
    (folder / "notes.txt").unlink()
    write_images(folder / "class")
    with pytest.raises(UapError, match="lies beside class folders"):
        image_folder(str(folder), 0.2, 0)


def test_class_folders_are_labels(tmp_path):
    for name in ("n01443537", "n01440764"):
        write_images(tmp_path / "wnids" / name, 2)
    # goldfish is class 1 and tench class 0 of ImageNet
    assert [p.label for p in list_images(str(tmp_path / "wnids"))] == [0, 0, 1, 1]
    for name in ("zebra", "ant"):
        write_images(tmp_path / "named" / name, 1)
    assert [(p.path.parent.name, p.label) for p in list_images(str(tmp_path / "named"))] == [
        ("ant", 0),
        ("zebra", 1),
    ]
    write_images(tmp_path / "wnids" / "n99999999", 1)
    with pytest.raises(UapError, match="n99999999, which is not one of"):
        list_images(str(tmp_path / "wnids"))
    assert [p.label for p in list_images(str(write_images(tmp_path / "flat")))] == [None] * 4


def test_class_folders_in_alphabetical_order_are_counted(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / "named" / name, 3)
    assert image_folder(str(tmp_path / "named"), 0.5, 0).classes == 2
    write_images(tmp_path / "wnids" / "n01440764", 3)
    assert image_folder(str(tmp_path / "wnids"), 0.5, 0).classes == 1000
    flat = write_images(tmp_path / "flat")
    assert image_folder(str(flat), 0.5, 0).classes is None


def test_links_to_class_folders_are_followed(tmp_path):
    write_images(tmp_path / "elsewhere", 2)
    write_images(tmp_path / "root" / "ant", 2)
    (tmp_path / "root" / "zebra").symlink_to(tmp_path / "elsewhere")
    found = [(p.path.parent.name, p.label) for p in list_images(str(tmp_path / "root"))]
    assert found == [("ant", 0), ("ant", 0), ("zebra", 1), ("zebra", 1)]
    assert image_folder(str(tmp_path / "root"), 0.5, 0).classes == 2


def test_links_in_a_circle_are_told(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        write_images(tmp_path / "images" / name, 1)
        (tmp_path / "images" / name / "other").symlink_to(tmp_path / "images" / other)
    with pytest.raises(UapError, match="is a link to a folder that it lies in"):
        list_images(str(tmp_path / "images"))


def test_what_is_no_file_is_told_and_not_left_out(tmp_path):
    folder = write_images(tmp_path / "images", 2)
    for make in (os.mkfifo, lambda path: path.symlink_to(tmp_path / "nothing")):
        make(folder / "x.jpg")
        with pytest.raises(UapError, match=r"x\.jpg is not a file, or a link to none: remove it"):
            list_images(str(folder))
        (folder / "x.jpg").unlink()


@pytest.mark.parametrize("root", ["~nobody-of-this-name/x", "x" * 300, "a\0b", 2012])
def test_a_name_that_cannot_be_is_told(root):
    with pytest.raises(UapError, match="which is not a folder"):
        image_folder(root, 0.2, 0)


def test_files_are_in_the_order_of_paths_and_named_as_paths_are(tmp_path, monkeypatch):
    """A text that has "-" or "." where another has "/" would stand before it."""
    names = ("a/b.png", "a/c/d.png", "a-b/c.png", "a.b/c.png", "a.png", "b.png", "B.PNG", ".x.png")
    for name in names:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    expected = sorted(p for p in (tmp_path / "images").rglob("*.[pP]*") if p.name[0] != ".")
    assert len(expected) == len(names) - 1
    assert files_below(tmp_path / "images") == [str(path) for path in expected]
    monkeypatch.chdir(tmp_path / "images")
    for root in (".", "./", "../images/."):
        expected = sorted(p for p in Path(root).rglob("*.[pP]*") if p.name[0] != ".")
        assert files_below(Path(root)) == [str(path) for path in expected]
