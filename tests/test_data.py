"""Photographs, the cache, crops, splits, and the perturbation on the device."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from tests.tiny import typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.data.cache import ImageCache, decode_once, read_pixels
from uap_lightning.data.crops import CropDataset, StepBatches, crop_origins
from uap_lightning.data.folder import image_folder, list_images
from uap_lightning.data.generated import generated_images
from uap_lightning.data.packaged import packaged_photographs
from uap_lightning.data.photographs import Photograph, random_split
from uap_lightning.jobs.config import build
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.sampling import PerturbationSampler, _moved


def write_images(folder, count=4, size=(40, 30), mode="RGB"):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def forty_images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("forty"), 40, (24, 20))


@pytest.fixture(scope="module")
def folder_config(forty_images):
    return typed_config("train", "data=folder", f"data.root={forty_images}", "data.crop=16")


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 200), st.floats(0.05, 0.9), st.integers(0, 1000), st.integers(0, 200))
def test_a_split_is_disjoint_and_tests_labelled_photographs(count, share, seed, labelled):
    from pathlib import Path

    photographs = [Photograph(Path(str(i)), i if i < labelled else None) for i in range(count)]
    wanted = round(share * count)
    if not 0 < wanted < count:
        with pytest.raises(UapError, match="test_share"):
            random_split(photographs, share, seed)
        return
    split = random_split(photographs, share, seed)
    assert len(split.test) == wanted
    assert not set(split.train) & set(split.test)
    assert set(split.train) | set(split.test) == set(photographs)
    assert split == random_split(photographs, share, seed)
    if min(labelled, count) >= wanted:
        assert all(photograph.label is not None for photograph in split.test)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(8, 60),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(1, 30),
    st.integers(0, 1000),
)
def test_crops_lie_inside_and_begin_with_centre_and_corners(size, more_y, more_x, count, seed):
    height, width = size + more_y, size + more_x
    origins = crop_origins(height, width, size, count, seed)
    assert len(origins) == count
    assert all(0 <= top <= more_y and 0 <= left <= more_x for top, left in origins)
    assert origins[0] == (more_y // 2, more_x // 2)
    if count >= 5:
        image = torch.arange(height * width).reshape(1, height, width)
        five = transforms.functional.five_crop(image, [size, size])
        ours = {tuple(image[0, t : t + size, x : x + size][0].tolist()) for t, x in origins[1:5]}
        assert ours == {tuple(crop[0, 0].tolist()) for crop in five[:4]}


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
    cfg.data["source"].update(seed=seed, test_share=test_share)
    data = build(cfg.data)
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


def test_the_cache_holds_what_pil_and_torchvision_decode(tmp_path):
    folder = write_images(tmp_path / "images", size=(50, 37))
    photographs = list_images(str(folder))
    cache = decode_once(photographs, 24, 1, tmp_path / "cache")
    for number, photograph in enumerate(photographs):
        image = Image.open(photograph.path).convert("RGB")
        expected = np.asarray(transforms.functional.resize(image, 24))
        assert np.array_equal(cache[number], expected.transpose(2, 0, 1))
    again = decode_once(photographs, 24, 1, tmp_path / "cache")
    assert again.folder == cache.folder
    assert again.digest == cache.digest
    assert len(list((tmp_path / "cache").iterdir())) == 1
    crops = CropDataset(cache, [2], [7], 16, 5, 0)
    top, left = crops.origins[3]
    expected = cache[2][:, top : top + 16, left : left + 16]
    assert np.array_equal(crops[3]["image"].numpy(), expected)
    assert crops[3]["label"] == 7
    assert torch.equal(crops.take([3, 1])[0], crops[3]["image"])


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    pixels = np.full((20, 24, 3), 90, dtype=np.uint8)
    path = tmp_path / "image.tif"
    Image.fromarray(pixels).convert(mode).save(path)
    found = read_pixels(Photograph(path, None), None, 8)
    assert found.shape == (20, 24, 3)
    assert abs(int(found.mean()) - 90) < 5


def test_a_rotated_photograph_stands_upright(tmp_path):
    image = Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "r.jpg", exif=exif)
    assert read_pixels(Photograph(tmp_path / "r.jpg", None), None, 8).shape == (30, 20, 3)


def test_files_that_are_no_whole_images_are_named(tmp_path):
    folder = write_images(tmp_path / "images")
    whole = (folder / "1.png").read_bytes()
    cache = tmp_path / "cache"
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UapError, match=r"1\.png cannot be decoded"):
        decode_once(list_images(str(folder)), None, 8, cache)
    (folder / "1.png").write_text("this is text")
    with pytest.raises(UapError, match=r"1\.png is not an image"):
        decode_once(list_images(str(folder)), None, 8, cache)
    assert list(cache.iterdir()) == []
    (folder / "1.png").write_bytes(whole)
    with pytest.raises(UapError, match=r"0\.png is 40 x 30 pixels, smaller than the crop of 32"):
        decode_once(list_images(str(folder)), 64, 32, cache)
    with pytest.raises(UapError, match="cannot be read"):
        decode_once([Photograph(folder / "9.png", None)], None, 8, cache)


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


def test_packaged_photographs_test_on_labelled_ones_only():
    split = packaged_photographs()
    assert len(split.test) == 10
    assert all(photograph.label is not None for photograph in split.test)
    assert not set(split.train) & set(split.test)
    fewer = packaged_photographs(["coffee.png"])
    assert {p.path.name for p in split.train} - {p.path.name for p in fewer.train} == {"coffee.png"}
    with pytest.raises(UapError, match=r"data\.exclude names cofee\.png"):
        packaged_photographs(["cofee.png"])


def test_a_missing_package_is_named(monkeypatch):
    import uap_lightning.data.packaged as packaged

    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UapError, match=r"foolbox, which is not installed.*\[quickstart\]"):
        packaged_photographs()


def test_generated_images_are_written_once(tmp_path):
    first = generated_images(16, 24, 0.25, 3, str(tmp_path))
    stamps = {p.path: p.path.stat().st_mtime_ns for p in first.train}
    second = generated_images(16, 24, 0.25, 3, str(tmp_path))
    assert first == second
    assert stamps == {p.path: p.path.stat().st_mtime_ns for p in second.train}


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


def test_the_sampler_adds_members_of_the_set_to_a_share_of_the_images():
    rho = torch.stack([torch.full((3, 8, 8), 9.0), torch.full((3, 8, 8), -7.0)])
    norm = Ball(math.inf, 10.0)
    sampler = PerturbationSampler(rho, 0.5, False, norm, 1)
    images = torch.full((400, 3, 8, 8), 100.0)
    perturbed, coin = sampler(images, 5)
    assert set(perturbed.unique().tolist()) == {93.0, 100.0, 109.0}
    assert torch.equal(perturbed[~coin], images[~coin])
    assert (perturbed[coin] != 100).all()
    assert 0.4 < float(coin.float().mean()) < 0.6
    again, _ = PerturbationSampler(rho, 0.5, False, norm, 1)(images, 5)
    assert torch.equal(again, perturbed)
    other, _ = sampler(images, 6)
    assert not torch.equal(other, perturbed)
    bright, _ = sampler(torch.full((50, 3, 8, 8), 250.0), 0)
    assert bright.max() == 255
    with pytest.raises(UapError, match="perturbed_share is 0"):
        PerturbationSampler(rho, 0.0, False, norm, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(2.0, 60.0), (math.inf, 10.0)]))
def test_relatives_of_perturbations_stay_in_the_ball(seed, ball):
    norm = Ball(*ball)
    generator = torch.Generator().manual_seed(seed)
    rho = norm.normalise(torch.randn(3, 3, 8, 8, generator=generator)) * norm.eps
    middle = torch.full((4, 3, 8, 8), 127.0)
    perturbed, _ = PerturbationSampler(rho, 1.0, True, norm, seed)(middle, 0)
    sizes = norm.size(perturbed - middle)
    assert (sizes <= norm.eps * (1 + 1e-4)).all()
    assert (sizes > 0.2 * norm.eps).all()
    # flips, rolls, orders of channels and signs keep the values
    moved = _moved(rho[0], generator)
    torch.testing.assert_close(moved.abs().flatten().sort()[0], rho[0].abs().flatten().sort()[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 100), st.integers(0, 60))
def test_batches_by_step_are_a_shuffle_that_can_begin_anywhere(count, size, seed, start):
    whole = StepBatches(count, size, seed, step=lambda: 0)
    assert sorted(i for batch in whole for i in batch) == list(range(count))
    later = StepBatches(count, size, seed, step=lambda: start)
    assert list(later) == [whole.batch(step) for step in range(start, start + len(whole))]


def test_class_folders_in_alphabetical_order_are_counted(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / "named" / name, 3)
    assert image_folder(str(tmp_path / "named"), 0.5, 0).numbered_classes == 2
    write_images(tmp_path / "wnids" / "n01440764", 3)
    assert image_folder(str(tmp_path / "wnids"), 0.5, 0).numbered_classes is None
    flat = write_images(tmp_path / "flat")
    assert image_folder(str(flat), 0.5, 0).numbered_classes is None


def test_the_cache_of_another_folder_is_not_ours(tmp_path):
    with pytest.raises(UapError, match=r"index\.json cannot be read"):
        ImageCache(tmp_path)
