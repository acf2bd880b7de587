"""The decode-once cache."""

import errno
import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision import transforms

import uap_lightning.data.cache as cache_module
from tests.tiny import write_images
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import locked
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
    assert list(cache.glob("*/")) == []
    (folder / "1.png").write_bytes(whole)
    with pytest.raises(UapError, match=r"0\.png is 40 x 30 pixels, smaller than the crop of 32"):
        decode_once(list_images(str(folder)), 64, 32, cache)
    with pytest.raises(UapError, match="cannot be read"):
        decode_once([Photograph(str(folder / "9.png"), None)], None, 8, cache)


def test_the_cache_of_another_folder_is_not_ours(tmp_path):
    with pytest.raises(UapError, match=r"index\.safetensors cannot be read.*remove the folder"):
        ImageCache(tmp_path)


def test_another_order_of_the_photographs_finds_them_decoded(tmp_path):
    """What is stored does not depend on the split; the numbers are those of the list given."""
    photographs = list_images(str(write_images(tmp_path / "images", 6, (24, 20))))
    first = decode_once(photographs, None, 8, tmp_path / "cache")
    shuffled = [photographs[n] for n in (3, 0, 5, 1, 4, 2)]
    second = decode_once(shuffled, None, 8, tmp_path / "cache")
    assert second.folder == first.folder
    assert second.digest != first.digest
    for cache, listed in ((first, photographs), (second, shuffled)):
        for number, photograph in enumerate(listed):
            with Image.open(photograph.path) as image:
                assert np.array_equal(cache[number].transpose(1, 2, 0), np.asarray(image))
            content = hashlib.sha256(photograph.path.read_bytes()).hexdigest()
            assert content.startswith(cache.contents[number])


def test_numbers_of_what_is_skipped_are_those_of_the_list_given(tmp_path):
    photographs = list_images(str(write_images(tmp_path / "images", 5, (24, 20))))
    photographs[1].path.write_bytes(b"no image")
    listed = photographs[::-1]
    cache = decode_once(listed, None, 8, tmp_path / "cache", skip_corrupt=True)
    assert cache.skipped == [3]
    for number, photograph in enumerate(p for p in listed if p != photographs[1]):
        with Image.open(photograph.path) as image:
            assert np.array_equal(cache[number].transpose(1, 2, 0), np.asarray(image))


def test_square_is_the_centre(tmp_path):
    photographs = list_images(str(write_images(tmp_path / "images", 2, (51, 30))))
    cache = decode_once(photographs, None, 8, tmp_path / "cache", square=True)
    for number, photograph in enumerate(photographs):
        with Image.open(photograph.path) as image:
            # round(10.5) is 10
            expected = np.asarray(image.crop((10, 0, 40, 30)))
        assert np.array_equal(cache[number].transpose(1, 2, 0), expected)


@pytest.mark.parametrize(
    "harm",
    [
        "cut",
        "longer",
        "flipped",
        "missing",
        "rows",
        "kind",
        "negative",
        "huge",
        "fewer",
        "cut index",
    ],
)
def test_a_damaged_cache_is_told(tmp_path, harm):
    photographs = list_images(str(write_images(tmp_path / "images", 3, (24, 20))))
    cache = decode_once(photographs, None, 8, tmp_path / "cache")
    pixels, index = cache.folder / "pixels.bin", cache.folder / "index.safetensors"
    content = bytearray(pixels.read_bytes())
    tensors = load_file(index)
    if harm == "cut":
        pixels.write_bytes(content[:-1])
    elif harm == "longer":
        pixels.write_bytes(content + b"0")
    elif harm == "flipped":
        content[2000] ^= 1
        pixels.write_bytes(content)
    elif harm == "missing":
        pixels.unlink()
    elif harm == "rows":
        save_file({**tensors, "contents": tensors["contents"][1:]}, index)
    elif harm == "kind":
        save_file({**tensors, "sizes": tensors["sizes"].float()}, index)
    elif harm == "negative":
        tensors["sizes"][:2] = torch.tensor([[-20, 24], [60, 24]])
        save_file(tensors, index)
    elif harm == "huge":  # the number of its pixels comes round to that of the first image
        tensors["sizes"][0] = torch.tensor([2**62 + 20, 24])
        save_file(tensors, index)
    elif harm == "fewer":
        pixels.write_bytes(content[: 2 * 3 * 20 * 24])
        rows = {name: tensor[:2] for name, tensor in tensors.items()}
        status = pixels.stat()
        rows["stamp"] = torch.tensor([status.st_size, status.st_mtime_ns])
        save_file(rows, index)
    else:
        index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(
        UapError, match=r"images-\w+.* (damaged|not the index).*remove th(at|e) folder"
    ):
        decode_once(photographs, None, 8, tmp_path / "cache")


def test_an_index_without_its_tensors_is_told(tmp_path):
    photographs = list_images(str(write_images(tmp_path / "images", 3, (24, 20))))
    cache = decode_once(photographs, None, 8, tmp_path / "cache")
    save_file({"sizes": torch.zeros(3, 2)}, cache.folder / "index.safetensors")
    with pytest.raises(UapError, match="is not the index of an image cache"):
        decode_once(photographs, None, 8, tmp_path / "cache")


def test_a_whole_copy_of_a_cache_is_read_through_once(tmp_path, monkeypatch):
    photographs = list_images(str(write_images(tmp_path / "images", 3, (24, 20))))
    cache = decode_once(photographs, None, 8, tmp_path / "cache")
    os.utime(cache.folder / "pixels.bin", ns=(1, 1))
    hashed = []
    digest = cache_module._digest
    monkeypatch.setattr(cache_module, "_digest", lambda image: hashed.append(1) or digest(image))
    for _ in range(2):
        assert decode_once(photographs, None, 8, tmp_path / "cache").digest == cache.digest
    assert len(hashed) == 3


def test_what_a_killed_process_left_is_swept_and_what_another_fills_is_not(tmp_path):
    photographs = list_images(str(write_images(tmp_path / "images", 3, (24, 20))))
    root = tmp_path / "cache"
    killed, other = root / ".images-aaaa.1234", root / ".images-bbbb.1234"
    for folder in (killed, other):
        folder.mkdir(parents=True)
        (folder / "pixels.bin").write_bytes(b"half")
    with locked(root / ".images-bbbb.lock", wait=False) as held:
        assert held
        decode_once(photographs, None, 8, root)
    assert not killed.exists()
    assert (other / "pixels.bin").exists()


FILL = """
import os, sys
from pathlib import Path
os.getpid = lambda: 7  # as in containers, whose processes all have the same numbers
from uap_lightning.data.cache import decode_once
from uap_lightning.data.folder import list_images
print(decode_once(list_images(sys.argv[1]), None, 8, Path(sys.argv[2])).digest)
"""


def test_processes_of_one_number_do_not_mix_their_images(tmp_path):
    """Three start at once, with the number of a process that was killed half-way."""
    photographs = list_images(str(write_images(tmp_path / "images", 60, (64, 60))))
    root = tmp_path / "cache"
    expected = decode_once(photographs, None, 8, tmp_path / "alone")
    left = root / f".{expected.folder.name}.7"
    left.mkdir(parents=True)
    (left / "pixels.bin").write_bytes(b"half")
    command = [sys.executable, "-c", FILL, str(tmp_path / "images"), str(root)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    said = {process.communicate(timeout=300)[0].decode().strip() for process in started}
    assert said == {expected.digest}
    assert [path.name for path in root.glob("*images-*/")] == [expected.folder.name]
    found = (root / expected.folder.name / "pixels.bin").read_bytes()
    assert found == (expected.folder / "pixels.bin").read_bytes()


def test_a_second_process_decodes_nothing_while_the_first_does(tmp_path, monkeypatch):
    """Threads stand for processes: whoever comes second waits, and finds it done."""
    photographs = list_images(str(write_images(tmp_path / "images", 4, (24, 20))))
    read = []
    prepared = cache_module.prepared

    def slow(*arguments):
        read.append(arguments[0].name)
        time.sleep(0.05)
        return prepared(*arguments)

    monkeypatch.setattr(cache_module, "prepared", slow)
    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(decode_once, photographs, None, 8, tmp_path / "c") for _ in range(3)]
        assert len({job.result().digest for job in work}) == 1
    assert sorted(read) == [photograph.name for photograph in photographs]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    photographs = list_images(str(write_images(tmp_path / "images", 2, (24, 20))))

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module.os, "fsync", full)
    with pytest.raises(UapError, match=r"could not be written \(No space left on device\)"):
        decode_once(photographs, None, 8, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*/")) == []
    assert list((tmp_path / "cache").glob(".*/")) == []
