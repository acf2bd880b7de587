"""The decode-once cache."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from tests.tiny import write_images
from uap_lightning.core.errors import UapError
from uap_lightning.data.cache import ImageCache, decode_once
from uap_lightning.data.crops import CropDataset
from uap_lightning.data.folder import list_images
from uap_lightning.data.photographs import Photograph


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
    assert len(list((tmp_path / "cache").glob("*images-*/"))) == 1
    crops = CropDataset(cache, [2], [7], 16, 5, 0)
    top, left = crops.origins[3]
    expected = cache[2][:, top : top + 16, left : left + 16]
    assert np.array_equal(crops[3]["image"].numpy(), expected)
    assert crops[3]["label"] == 7
    assert torch.equal(crops.take([3, 1])[0], crops[3]["image"])


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
    assert list(cache.glob("*/")) == [], "a folder was left"
    (folder / "1.png").write_bytes(whole)
    with pytest.raises(UapError, match=r"0\.png is 40 x 30 pixels, smaller than the crop of 32"):
        decode_once(list_images(str(folder)), 64, 32, cache)
    with pytest.raises(UapError, match="cannot be read"):
        decode_once([Photograph(folder / "9.png", None)], None, 8, cache)


def test_the_cache_of_another_folder_is_not_ours(tmp_path):
    with pytest.raises(UapError, match=r"index\.json cannot be read"):
        ImageCache(tmp_path)
