"""The data module: what is on which side, and settings out of range."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import composed, write_images
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.config import build


@pytest.fixture(scope="module")
def forty_images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("forty"), 40, (24, 20))


@pytest.fixture(scope="module")
def folder_config(forty_images):
    return composed("train", "data=folder", f"data.root={forty_images}", "data.crop=16")


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    crops=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    craft_share=st.floats(0.05, 1),
    test_share=st.floats(0.05, 0.9),
)
def test_two_crops_of_one_photograph_are_on_one_side(
    forty_images, folder_config, seed, crops, craft_share, test_share
):
    counts = zip(("train_crops", "craft_crops", "test_crops"), crops, strict=True)
    cfg = copy.deepcopy(folder_config)
    cfg.data.update(dict(counts), resize=20, craft_share=craft_share, seed=seed)
    cfg.data.source.update(seed=seed, test_share=test_share)
    data = build(cfg.data)
    data.setup()
    names = {use: data.split_lists[use] for use in ("train", "craft", "test")}
    assert not set(names["train"]) & set(names["test"])
    assert set(names["craft"]) <= set(names["train"])
    assert sorted(names["train"] + names["test"]) == sorted(map(str, forty_images.iterdir()))
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
    cfg = composed("train", "network=tiny", "data=generated", override)
    with pytest.raises(UapError, match=said):
        build(cfg.data).setup()
