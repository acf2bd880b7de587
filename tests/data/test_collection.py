"""Collections of photographs: what is on which side, and settings out of range."""

import copy
import hashlib
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.tiny import typed_config, write_images
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.config import build


@pytest.fixture(scope="module")
def forty_images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("forty"), 40, (24, 20))


@pytest.fixture(scope="module")
def folder_config(forty_images):
    return typed_config("train", "data=folder", f"data.root={forty_images}", "data.crop=16")


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    crops=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    craft_share=st.floats(0.05, 1),
    test_share=st.floats(0.05, 0.9),
    validation_share=st.sampled_from([0.0, 0.01, 0.25, 0.5]),
)
def test_two_crops_of_one_photograph_are_on_one_side(
    forty_images, folder_config, seed, crops, craft_share, test_share, validation_share
):
    counts = zip(("train_crops", "craft_crops", "test_crops"), crops, strict=True)
    cfg = copy.deepcopy(folder_config)
    cfg.data.update(dict(counts), resize=20, craft_share=craft_share, seed=seed)
    cfg.data["source"].update(seed=seed, test_share=test_share)
    whole = build(cfg.data)
    cfg.data["validation_share"] = validation_share
    data = build(cfg.data)
    names = {use: data.split_lists[use] for use in ("train", "craft", "validation", "test")}
    assert set(names["craft"]) <= set(names["train"])
    # Each photograph is on one side; what is held out is of the training side, and none by itself.
    held = names["validation"]
    assert sorted(names["train"] + held + names["test"]) == sorted(map(str, forty_images.iterdir()))
    assert names["test"] == whole.split_lists["test"]
    assert len(held) == math.ceil(validation_share * len(whole.split_lists["train"]))
    if not held:
        assert data.split_lists == whole.split_lists
        assert data.validation is None
    else:
        assert len(data.validation) == crops[2] * len(held)
        assert len(set(data.validation.photograph.tolist())) == len(held)
    train, test = set(data.train.photograph.tolist()), set(data.test.photograph.tolist())
    assert not train & test
    assert len(data.train) == crops[0] * len(names["train"])
    assert len(data.test) == crops[2] * len(names["test"])
    crafted = set(data.craft.photograph.tolist())
    unseen = set() if data.unseen is None else set(data.unseen.photograph.tolist())
    assert not crafted & unseen
    assert crafted | unseen == train


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.crop=4", r"data\.crop is 4"),
        ("data.resize=16", r"data\.crop is 32 with data\.resize 16"),
        ("data.train_crops=0", r"data\.train_crops is 0"),
        ("data.num_workers=-1", r"data\.num_workers is -1"),
        ("data.batch_size=0", r"data\.batch_size is 0"),
        ("data.craft_share=0", r"data\.craft_share is 0"),
        ("data.craft_share=1.5", r"data\.craft_share is 1\.5"),
    ],
)
def test_settings_out_of_range_are_told(override, said):
    cfg = typed_config("train", "network=tiny", "data=generated", override)
    with pytest.raises(UapError, match=said):
        build(cfg.data)


def test_copies_are_on_one_side_and_counted(tmp_path, caplog):
    """Ten photographs under three names each, and two unequal files of one name and size."""
    folder = tmp_path / "images"
    for copy_of in ("a", "b", "c"):
        write_images(folder / copy_of, 10, (24, 20))
    for name in ("d", "e"):
        write_images(folder / name, 1, (24, 20))
        Image.new("RGB", (24, 20), (9, 9, ord(name))).save(folder / name / "0.bmp")
        (folder / name / "0.png").unlink()
    known, sizes = {}, []
    for seed in range(6):
        cfg = typed_config("train", "data=folder", f"data.root={folder}", "data.crop=16")
        cfg.data.update(resize=20, cache_dir=str(tmp_path / "cache"), seed=seed)
        cfg.data.update(validation_share=0.3)
        cfg.data["source"].update(seed=seed, test_share=0.4)
        data = build(cfg.data)
        sides = {}
        for use in ("train", "validation", "test"):
            for name in data.split_lists[use]:
                sides.setdefault(Path(name).read_bytes(), set()).add(use)
        assert len(sides) == 12
        assert all(len(side) == 1 for side in sides.values())
        crafted = {Path(name).read_bytes() for name in data.split_lists["craft"]}
        number = data.unseen.photograph.unique().tolist() if data.unseen else []
        seen = [n for use in ("train", "validation", "test") for n in data.split_lists[use]]
        assert len(seen) == 32
        assert data.split_lists["validation"]
        assert not {data.unseen.cache.contents[n] for n in number} & {
            hashlib.sha256(content).hexdigest()[:32] for content in crafted
        }
        assert not set(data.trained_on) & set(data.tested_on)
        for digest, name in data.tested_on.items():
            assert known.setdefault(digest, Path(name).read_bytes()) == Path(name).read_bytes()
        sizes.append(len(data.split_lists["test"]))
    assert "20 of 32 photographs are copies of others" in caplog.text
    # In the mean the share stays what was asked for: 12.8 of 32.
    assert 7 < sum(sizes) / len(sizes) < 19
    assert len(list((tmp_path / "cache").glob("images-*/"))) == 1


def test_nothing_but_copies_cannot_be_split(tmp_path):
    for name in ("a", "b"):
        write_images(tmp_path / "images" / name, 1, (24, 20))
    cfg = typed_config("train", "data=folder", f"data.root={tmp_path / 'images'}", "data.crop=16")
    cfg.data.update(resize=20, cache_dir=str(tmp_path / "cache"))
    cfg.data["source"]["test_share"] = 0.5
    with pytest.raises(UapError, match="1 are copies of others, which leaves none"):
        build(cfg.data)
