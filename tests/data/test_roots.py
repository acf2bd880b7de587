"""Collections of several folders, and of test photographs in folders of their own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import typed_config, write_images
from uap_lightning.core.errors import UapError
from uap_lightning.data.folder import image_folder
from uap_lightning.data.imagenet import imagenet_sample
from uap_lightning.data.imagenet_classes import imagenet_wnids
from uap_lightning.jobs.config import build

TENCH, GOLDFISH = "n01440764", "n01443537"


def write_named(folder, *names, size=(40, 30)):
    """Photographs of noise by name, no two of the same bytes; ``size`` is width and height."""
    for name in names:
        rng = np.random.default_rng(list(f"{folder.name}/{name}".encode()))
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return folder


def made(source, root, test_root, *overrides):
    """The collection of the command line's words."""
    words = [f"data={source}", f"data.root={root}", f"data.test_root={test_root}"]
    sizes = ["data.resize=null", "data.crop=16", "data.train_crops=1"]
    return build(typed_config("train", *words, *sizes, *overrides).data)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders to train on and one to test on, that hold files of one name."""
    monkeypatch.chdir(tmp_path)
    write_named(tmp_path / "one", f"{TENCH}_a", f"{GOLDFISH}_b", f"{TENCH}_c")
    write_named(tmp_path / "two", f"{TENCH}_a", "n15075141_d")
    write_named(tmp_path / "test", f"{TENCH}_a", f"{GOLDFISH}_x")
    return tmp_path


@pytest.mark.parametrize("source", ["imagenet_sample", "folder"])
def test_all_of_root_is_trained_on_and_all_of_test_root_tested_on(folders, source):
    data = made(source, "[one,two]", "test", "data.source.test_share=0.9")
    lists = data.split_lists
    trained = [str(p) for folder in ("one", "two") for p in sorted(Path(folder).iterdir())]
    assert lists["train"] == trained
    assert lists["test"] == sorted(map(str, Path("test").iterdir()))
    # Three files are of one name: the list still says which is which.
    assert len({*lists["train"], *lists["test"]}) == 7
    assert set(lists["craft"]) <= set(trained)
    assert len(data.train) == 5
    for crops, names in ((data.train, lists["train"]), (data.test, lists["test"])):
        per = len(crops) // len(names)
        for place, name in enumerate(names):
            with Image.open(name) as image:
                centre = np.asarray(image)[7:23, 12:28].transpose(2, 0, 1)
            assert np.array_equal(crops[place * per]["image"].numpy(), centre)
            wnid = Path(name).name.split("_")[0]
            label = imagenet_wnids().index(wnid) if source == "imagenet_sample" else -1
            assert int(crops[place * per]["label"]) == label


def test_several_folders_to_test_on(folders):
    write_named(folders / "more", f"{TENCH}_a")
    data = made("imagenet_sample", "one", "[test,more]")
    assert data.split_lists["test"][2:] == [f"more/{TENCH}_a.png"]
    assert len(data.split_lists["test"]) == 3


def test_without_test_root_several_folders_are_split_as_one(folders):
    """As if the files lay in one folder, and a list of one folder is that folder."""
    together = folders / "together"
    together.mkdir()
    for number, path in enumerate(p for f in ("one", "two") for p in sorted(Path(f).iterdir())):
        wnid, rest = path.name.split("_")
        shutil.copy(path, together / f"{wnid}_{number}{rest}")
    one = made("imagenet_sample", "[one,two]", "null", "data.source.test_share=0.4")
    lists = one.split_lists
    assert len(lists["test"]) == 2
    assert sorted(lists["train"] + lists["test"]) == sorted(
        str(p) for f in ("one", "two") for p in Path(f).iterdir()
    )
    single, listed = (made("imagenet_sample", root, "null") for root in ("together", "[together]"))
    assert single.test_split == listed.test_split
    assert single.split_lists == listed.split_lists


def test_class_folders_are_numbered_over_all_folders(tmp_path):
    for name in ("a/cat", "a/dog", "b/ant", "t/dog"):
        write_named(tmp_path / name, f"{name[0]}1")
    split = image_folder([str(tmp_path / "a"), str(tmp_path / "b")], 0.2, 0, str(tmp_path / "t"))
    assert [(p.path.parent.name, p.label) for p in split.train] == [
        *(("cat", 1), ("dog", 2), ("ant", 0))
    ]
    assert [p.label for p in split.test] == [2]
    assert split.classes == 3


def test_a_class_that_is_tested_on_must_be_known(tmp_path):
    """By the number of the folder a network would answer for another class."""
    for name in ("train/cat", "train/dog", "test/cat", "test/cow"):
        write_named(tmp_path / name, "x")
    train, test = str(tmp_path / "train"), str(tmp_path / "test")
    with pytest.raises(UapError, match=r"cow/x\.png lies in a class folder cow, .*data\.root's"):
        image_folder(train, 0.2, 0, test)
    # ImageNet's classes are known, whichever are trained on.
    for name in (f"wnids/{TENCH}", f"others/{GOLDFISH}"):
        write_named(tmp_path / name, "x")
    split = image_folder(str(tmp_path / "wnids"), 0.2, 0, str(tmp_path / "others"))
    assert ([p.label for p in split.train], [p.label for p in split.test]) == ([0], [1])
    assert split.classes == 1000
    # What is trained on needs no labels.
    split = image_folder(str(tmp_path / "wnids" / TENCH), 0.2, 0, train)
    assert ([p.label for p in split.test], split.classes) == ([0, 1], 2)


def test_test_photographs_that_are_trained_on_are_counted_and_named(folders):
    """Under another name, and only where the bytes are the same."""
    shutil.copy("two/n15075141_d.png", f"test/{TENCH}_hidden.png")
    shutil.copy(f"one/{TENCH}_c.png", f"test/{TENCH}_c.png")
    with pytest.raises(UapError) as caught:
        made("imagenet_sample", "[one,two]", "test")
    assert str(caught.value).startswith(
        "2 of the 4 photographs of data.test_root are photographs of data.root too, byte for byte, "
        f"such as test/{TENCH}_c.png, which is one/{TENCH}_c.png: remove them"
    )
    # Among photographs that are split at random they are moved to one side, as ever.
    data = made("imagenet_sample", "[one,two,test]", "null", "data.source.test_share=0.4")
    assert not set(data.trained_on) & set(data.tested_on)


def test_a_copy_is_found_beside_photographs_that_are_left_out(folders):
    """Numbers of photographs shift where some cannot be decoded."""
    Path(f"one/{TENCH}_a.png").write_bytes(b"no image")
    Path(f"test/{TENCH}_a.png").write_bytes(b"no image, another")
    data = made("imagenet_sample", "one", "test", "data.skip_corrupt=true")
    assert len(data.split_lists["skipped"]) == 2
    shutil.copy(f"one/{TENCH}_c.png", f"test/{TENCH}_c.png")
    with pytest.raises(UapError, match=rf"1 of the 2 .*test/{TENCH}_c.png, which is one/{TENCH}_c"):
        made("imagenet_sample", "one", "test", "data.skip_corrupt=true")


@pytest.mark.parametrize("source", [image_folder, imagenet_sample])
@pytest.mark.parametrize(
    ("root", "test_root", "said"),
    [
        ([], None, r"data\.root is not set"),
        ([""], None, r"data\.root is not set"),
        (["one", "missing"], None, r"data\.root is missing, which is not a folder"),
        (["one", "two", "one"], None, r"data\.root names one, which is, holds or lies in one of"),
        (["one", "two/../one"], None, "name each folder once"),
        (["one", "link"], None, "name each folder once"),
        ([".", "one"], None, "name each folder once"),
        (["one", "."], None, r"names \., which is, holds or lies in one of"),
        ("one", [], r"data\.test_root is not set"),
        ("one", "", r"data\.test_root is not set"),
        ("one", "missing", r"data\.test_root is missing, which is not a folder"),
        ("one", "file.png", r"data\.test_root is file\.png, which is not a folder"),
        ("one", "empty", r"data\.test_root is empty, which holds no image"),
        ("one", "one/", r"data\.test_root names one, .* one of data\.root: name"),
        (["two", "one"], ["test", "one/below"], r"data\.test_root names one/below, .*lies in one"),
        ("one", ["test", "test"], r"of data\.test_root: name each folder once"),
        ("one", "notes", r"notes\.txt is not an image file: data\.test_root takes"),
    ],
)
def test_folders_that_cannot_be_meant_are_told(folders, source, root, test_root, said):
    (folders / "empty").mkdir()
    (folders / "file.png").touch()
    (folders / "notes").mkdir()
    (folders / "notes" / "notes.txt").touch()
    (folders / "link").symlink_to(folders / "one")
    if "below" in str(test_root):
        write_named(folders / "one" / "below", f"{TENCH}_z")
    with pytest.raises(UapError, match=said):
        source(root, 0.5, 0, test_root)


@pytest.mark.parametrize("source", ["generated", "photos", "imagenet"])
def test_a_source_that_takes_no_test_root_refuses_it(source):
    with pytest.raises(UapError, match=r"unexpected keyword argument 'test_root'"):
        typed_config("train", f"data={source}", "+data.test_root=somewhere")


SIZES = {"small": (227, 227), "smaller": (224, 224), "large": (300, 256), "tall": (250, 400)}


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """Photographs of four sizes in as many folders; a fifth is smaller than the crop."""
    place = tmp_path_factory.mktemp("sizes")
    for name, size in SIZES.items():
        write_images(place / name, 1, size)
    write_images(place / "tiny", 1, (150, 100))
    return place


def sizes_of(place, names, resize, crop, upscale):
    words = [
        f"data.root=[{','.join(str(place / name) for name in names)}]",
        f"data.resize={resize}",
    ]
    more = [f"data.crop={crop}", f"data.upscale={upscale}", f"paths.cache_dir={place / 'cache'}"]
    cfg = typed_config("train", "data=folder", *words, *more)
    data = build(cfg.data)
    names = {Path(name).parent.name: n for n, name in enumerate(data.split_lists["train"])}
    found = {name: data.train.cache.size(n) for name, n in names.items()}
    [tested] = data.split_lists["test"]
    found[Path(tested).parent.name] = data.train.cache.size(len(names))
    assert all(image.shape == (3, crop, crop) for image in data.train.take(range(len(data.train))))
    return found


@pytest.mark.parametrize("upscale", [False, True])
@pytest.mark.parametrize(
    ("resize", "crop", "expected"),
    [
        # As they are.
        ("null", 224, [(227, 227), (224, 224), (256, 300), (400, 250)]),
        # All to one short side: some are enlarged, others reduced.
        (256, 224, [(256, 256), (256, 256), (256, 300), (409, 256)]),
        (240, 224, [(240, 240), (240, 240), (240, 281), (384, 240)]),
        (160, 128, [(160, 160), (160, 160), (160, 187), (256, 160)]),
    ],
)
def test_photographs_of_several_sizes_have_one_short_side(sizes, resize, crop, expected, upscale):
    found = sizes_of(sizes, SIZES, resize, crop, upscale)
    assert found == dict(zip(SIZES, expected, strict=True))


def test_a_photograph_below_the_crop_is_enlarged_on_request_alone(sizes):
    for resize, crop, size in ((256, 224, (256, 384)), ("null", 224, (224, 336))):
        found = sizes_of(sizes, [*SIZES, "tiny"], resize, crop, True)
        assert found["tiny"] == size
        assert found["smaller"] == ((224, 224) if resize == "null" else (256, 256))
        # Those that have been decoded so are not taken for ones that need no enlarging.
        with pytest.raises(UapError, match=r"150 x 100 pixels, smaller .* data\.upscale=true"):
            sizes_of(sizes, [*SIZES, "tiny"], resize, crop, False)


def test_mixed_sizes_are_cropped_each_at_its_own_centre(sizes):
    words = [f"data.root=[{','.join(str(sizes / name) for name in SIZES)}]", "data.resize=null"]
    cfg = typed_config("train", "data=folder", *words, f"paths.cache_dir={sizes / 'cache'}")
    data = build(cfg.data)
    for place, name in enumerate(data.split_lists["train"]):
        with Image.open(name) as image:
            left, top = (image.width - 224) // 2, (image.height - 224) // 2
            centre = np.asarray(image.crop((left, top, left + 224, top + 224)))
        first = data.train[place * len(data.train) // len(data.split_lists["train"])]["image"]
        assert np.array_equal(first.permute(1, 2, 0).numpy(), centre)


SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs photographs of a shared folder")
def test_three_folders_of_imagenet_photographs_go_together(tmp_path):
    """Sizes of 256, 224 and 227; a part of each by links, in folders of one kind."""
    for name in ("imagenet-sample", "imagenet-ten", "imagenet-val"):
        (tmp_path / name).mkdir()
        for path in sorted((SHARED / name).iterdir())[:40]:
            (tmp_path / name / path.name).symlink_to(path)
    root, test = f"[{tmp_path}/imagenet-sample,{tmp_path}/imagenet-ten]", tmp_path / "imagenet-val"
    words = ["data=imagenet_sample", f"data.root={root}", f"data.test_root={test}"]
    for resize in ("null", "256"):
        cfg = typed_config("train", *words, f"data.resize={resize}", f"paths.cache_dir={tmp_path}")
        data = build(cfg.data)
        assert len(data.split_lists["train"]) == 80
        assert len(data.split_lists["test"]) == 40
        cache = data.train.cache
        sides = {min(cache.size(number)) for number in range(len(cache))}
        assert sides == {256} if resize == "256" else sides >= {224, 227, 256}
        assert int(data.test.label.min()) >= 0
