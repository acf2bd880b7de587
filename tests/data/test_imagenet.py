"""ImageNet's validation set in each of its forms, and the flat sample."""

import io
import os
import shutil
import tarfile

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from tests.tiny import typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.data import imagenet
from uap_lightning.data.cache import decode_once
from uap_lightning.data.imagenet import imagenet_sample, imagenet_validation, list_validation
from uap_lightning.data.imagenet_classes import imagenet_wnids
from uap_lightning.jobs.config import build
from uap_lightning.jobs.stages import check_labels
from uap_lightning.networks.tiny import tiny

COUNT = 12
# The devkit's order of classes is not the sorted one: here class 7 i + 3 comes i-th.
ORDER = [(7 * place + 3) % 1000 for place in range(1000)]


@pytest.fixture
def flat(tmp_path):
    """Twelve images as the validation set names them, each of a brightness of its own."""
    folder = tmp_path / "ILSVRC2012_img_val"
    folder.mkdir()
    for number in range(1, COUNT + 1):
        pixels = np.full((40, 50, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"ILSVRC2012_val_{number:08d}.JPEG")
    return folder


def truth(number):
    """Class in the devkit's numbering of image ``number``: any will do."""
    return 37 * number % 1000 + 1


@pytest.fixture
def devkit(tmp_path):
    """A devkit as ILSVRC publishes it: leaves first, then inner nodes, of an own order."""
    folder = tmp_path / "ILSVRC2012_devkit_t12"
    (folder / "data").mkdir(parents=True)
    wnids = imagenet_wnids()
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("num_children", "f8")]
    synsets = np.zeros((1003, 1), kinds)
    for place in range(1000):
        synsets[place, 0] = (place + 1, wnids[ORDER[place]], "a class", 0)
    for place in range(1000, 1003):
        synsets[place, 0] = (place + 1, f"n9999{place}", "a group", 2)
    scipy.io.savemat(folder / "data" / "meta.mat", {"synsets": synsets})
    lines = "".join(f"{truth(number)}\n" for number in range(1, COUNT + 1))
    (folder / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)
    imagenet.ground_truth.cache_clear()
    return folder


EXPECTED = [ORDER[truth(number) - 1] for number in range(1, COUNT + 1)]


def test_the_three_forms_give_the_same_images_and_classes(tmp_path, flat, devkit):
    archive = tmp_path / "ILSVRC2012_img_val.tar"
    with tarfile.open(archive, "w") as file:
        for path in sorted(flat.iterdir(), reverse=True):
            file.add(path, path.name)
    classes = tmp_path / "classes"
    for path, label in zip(sorted(flat.iterdir()), EXPECTED, strict=True):
        folder = classes / imagenet_wnids()[label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)

    def brightness(photographs):
        cache = decode_once(photographs, 32, 32, tmp_path / "cache", square=True)
        assert {cache.size(number) for number in range(len(cache))} == {(32, 32)}
        return [round(float(cache[i].mean()) / 10) for i in range(len(cache))]

    for root in (flat, archive, classes):
        photographs = list_validation(str(root), None)
        found = dict(zip(brightness(photographs), [p.label for p in photographs], strict=True))
        assert found == dict(zip(range(1, COUNT + 1), EXPECTED, strict=True)), root


def test_the_devkit_may_be_packed_and_lie_elsewhere(tmp_path, flat, devkit):
    packed = tmp_path / "elsewhere" / "ILSVRC2012_devkit_t12.tar.gz"
    packed.parent.mkdir()
    with tarfile.open(packed, "w:gz") as file:
        file.add(devkit, devkit.name)
    shutil.rmtree(devkit)
    with pytest.raises(UapError, match=r"images without classes: set data\.source\.devkit"):
        list_validation(str(flat), None)
    assert [p.label for p in list_validation(str(flat), str(packed))] == EXPECTED


def test_what_does_not_fit_is_told(tmp_path, flat, devkit):
    def said(match, images=None):
        with pytest.raises(UapError, match=match):
            imagenet_validation(str(flat), None, images, 0.25, 0)

    said("has the ground truth of 12 images: expected 50000", images=50_000)
    last = flat / f"ILSVRC2012_val_{COUNT:08d}.JPEG"
    whole = last.read_bytes()
    last.unlink()
    said("holds 11 validation images: expected 12", images=COUNT)
    last.write_bytes(whole)
    said(r"no image of class n01440764 \(988 of 1,000 classes are missing\)", images=COUNT)
    lines = devkit / "data" / "ILSVRC2012_validation_ground_truth.txt"
    lines.write_text("\n".join(lines.read_text().split()[:-1]))
    imagenet.ground_truth.cache_clear()
    said("ground truth of 11 images and .*00000012.JPEG is number 12")
    lines.unlink()
    imagenet.ground_truth.cache_clear()
    said("no readable data/ILSVRC2012_validation_ground_truth.txt")
    (flat / "cat.JPEG").touch()
    lines.write_text("1\n" * COUNT)
    imagenet.ground_truth.cache_clear()
    said("cat.JPEG in .* is not named as ILSVRC2012_val_00000001.JPEG")
    (devkit / "data" / "meta.mat").write_bytes(b"no matlab")
    imagenet.ground_truth.cache_clear()
    said("does not hold the ground truth")


def test_a_truncated_tar_is_told(tmp_path, flat, devkit):
    archive = tmp_path / "val.tar"
    with tarfile.open(archive, "w") as file:
        for path in sorted(flat.iterdir()):
            file.add(path, path.name)
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(UapError, match=r"val\.tar"):
        decode_once(list_validation(str(archive), None), 32, 32, tmp_path / "cache")
    archive.write_bytes(b"nothing like a tar file" * 100)
    with pytest.raises(UapError, match="cannot be read as a tar file"):
        list_validation(str(archive), None)


def test_the_sample_is_labelled_by_its_names(tmp_path):
    for name in ("n01440764_tench", "n15075141_toilet_tissue"):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{name}.JPEG")
    split = imagenet_sample(str(tmp_path), 0.5, 0)
    assert {p.path.name: p.label for p in split.train + split.test} == {
        "n01440764_tench.JPEG": 0,
        "n15075141_toilet_tissue.JPEG": 999,
    }
    Image.new("RGB", (40, 40)).save(tmp_path / "cat.JPEG")
    with pytest.raises(UapError, match=r"cat.JPEG does not begin with one of ImageNet's"):
        imagenet_sample(str(tmp_path), 0.5, 0)


def test_corrupt_photographs_are_named_or_left_out_and_recorded(tmp_path):
    names = imagenet_wnids()[:8]
    rng = np.random.default_rng(0)
    for name in names:
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}_x.JPEG")
    broken = tmp_path / f"{names[3]}_x.JPEG"
    broken.write_bytes(broken.read_bytes()[:300])
    overrides = ["data=imagenet_sample", f"data.root={tmp_path}", "data.resize=32", "data.crop=16"]
    with pytest.raises(UapError, match=f"{names[3]}_x.JPEG cannot be decoded"):
        build(typed_config("train", *overrides).data)
    data = build(typed_config("train", *overrides, "data.skip_corrupt=true").data)
    assert data.split_lists["skipped"] == [str(broken)]
    used = data.split_lists["train"] + data.split_lists["test"]
    assert sorted([*used, str(broken)]) == sorted(map(str, tmp_path.glob("*.JPEG")))
    # Labels and pixels still belong together.
    for crops, lists in ((data.train, "train"), (data.test, "test")):
        per = len(crops) // len(data.split_lists[lists])
        for place, name in enumerate(data.split_lists[lists]):
            item = crops[place * per]
            with Image.open(name) as image:
                whole = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
            assert int(item["label"]) == names.index(name.split("/")[-1].split("_")[0])
            centre = torch.from_numpy(whole[8:24, 8:24].copy()).permute(2, 0, 1)
            assert (item["image"].int() - centre.int()).abs().max() <= 1


def test_too_few_are_left_after_skipping(tmp_path):
    for name in imagenet_wnids()[:4]:
        (tmp_path / f"{name}_x.JPEG").write_bytes(b"no image")
    overrides = ["data=imagenet_sample", f"data.root={tmp_path}", "data.skip_corrupt=true"]
    with pytest.raises(UapError, match="4 of 4 photographs cannot be decoded"):
        build(typed_config("train", *overrides).data)


def test_a_folder_beside_class_folders_and_an_absent_tar_are_told(tmp_path):
    for name in ("n01440764", "other"):
        (tmp_path / "val" / name).mkdir(parents=True)
    with pytest.raises(UapError, match="other lies beside folders named by WordNet id"):
        list_validation(str(tmp_path / "val"), None)
    with pytest.raises(UapError, match=r"val\.tar, which does not exist"):
        list_validation(str(tmp_path / "val.tar"), None)
    with pytest.raises(UapError, match="holds neither class folders"):
        list_validation(str(tmp_path / "val" / "other"), None)


def test_without_data_the_validation_set_and_where_it_is_had_are_named():
    with pytest.raises(UapError) as caught:
        imagenet_validation(None, None, 50_000, 0.2, 0)
    for word in (
        "data.root",
        "validation set",
        "IMAGENET_DIR",
        "ILSVRC2012_img_val.tar",
        "image-net.org",
        "experiment=quickstart",
    ):
        assert word in str(caught.value)


def test_members_of_a_tar_file_are_bounded(tmp_path, devkit):
    """A header that claims 2^60 bytes, and one whose size leads back: neither is followed."""
    archive = tmp_path / "val.tar"
    for size in (2**60, -1024):
        member = tarfile.TarInfo("ILSVRC2012_val_00000001.JPEG")
        member.size = size
        archive.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
        with pytest.raises(UapError, match=r"val\.tar"):
            decode_once(list_validation(str(archive), None), 32, 32, tmp_path / "cache")


@pytest.mark.parametrize("where", ["before", "itself"])
def test_a_devkit_that_unpacks_to_anything_is_refused(tmp_path, flat, where, monkeypatch):
    monkeypatch.setattr(imagenet, "_DEVKIT_BYTES", 10**6)
    packed = tmp_path / "devkit.tar.gz"
    with tarfile.open(packed, "w:gz") as file:
        member = tarfile.TarInfo("zeros" if where == "before" else imagenet.GROUND_TRUTH)
        member.size = 2 * 10**6
        file.addfile(member, io.BytesIO(bytes(member.size)))
    imagenet.ground_truth.cache_clear()
    with pytest.raises(UapError, match="it unpacks to more than 1,000,000 bytes"):
        list_validation(str(flat), str(packed))


def test_a_devkit_of_no_files_is_told(tmp_path, flat, devkit):
    lines = devkit / "data" / "ILSVRC2012_validation_ground_truth.txt"
    lines.unlink()
    os.mkfifo(lines)
    imagenet.ground_truth.cache_clear()
    with pytest.raises(UapError, match="has no readable data/ILSVRC2012_validation_ground"):
        list_validation(str(flat), None)


@pytest.mark.parametrize("source", ["imagenet_sample", "folder"])
def test_labels_of_imagenet_belong_to_networks_of_1000_classes(tmp_path, source):
    """Of the first eight classes, whose numbers a network of eight has too."""
    for name in imagenet_wnids()[:8]:
        place = tmp_path / (f"{name}/x.JPEG" if source == "folder" else f"{name}_x.JPEG")
        place.parent.mkdir(exist_ok=True)
        rng = np.random.default_rng(len(name) + int(name[1:]))
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(place)
    shape = [f"data.root={tmp_path}", "data.resize=32", "data.crop=32", "network=tiny"]
    data = build(typed_config("train", f"data={source}", *shape).data)
    network = tiny()
    with pytest.raises(UapError, match="labelled with 1000 classes and the network tiny has 8"):
        check_labels(data, network)
    network.classes = lambda size: 1000
    check_labels(data, network)
