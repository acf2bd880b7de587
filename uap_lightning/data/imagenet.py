"""The ILSVRC 2012 validation set in the forms that people have it in."""

import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import scipy.io

from uap_lightning.core.errors import UapError
from uap_lightning.data.folder import files_below, list_images
from uap_lightning.data.imagenet_classes import imagenet_wnids, is_wnid
from uap_lightning.data.photographs import Photograph, Split, divided, random_split
from uap_lightning.data.roots import Roots, folders_of, required_folder

DEVKITS = ("ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12.tar.gz")
GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
META = "data/meta.mat"
# More than the devkit unpacks to; a small archive can be made to unpack to anything.
_DEVKIT_BYTES = 64 * 2**20


def imagenet_validation(
    root: str | None,
    devkit: str | None,
    images: int | None,
    test_share: float,
    seed: int,
) -> Split:
    """The validation images with their classes, split at random (section 5 of the paper).

    Args:
        root: class folders named by WordNet id, the flat folder of ``ILSVRC2012_val_*.JPEG``
            files, or the untouched ``ILSVRC2012_img_val.tar``. The last two are labelled by the
            devkit's ground truth.
        devkit: the devkit's folder or its ``.tar.gz``; looked for in and beside ``root`` when
            None. Class folders need none.
        images: how many there must be, of every one of the 1,000 classes; 50,000 in the whole
            set, None for a part of any size.
        test_share: share of the images to test on.
        seed: of the split.

    Raises:
        UapError: the set is missing, incomplete, or its ground truth does not fit it.
    """
    photographs = list_validation(root, devkit, images)
    if images is not None:
        _check_whole(photographs, images, root)
    return replace(random_split(photographs, test_share, seed), classes=1000)


def imagenet_sample(root: Roots, test_share: float, seed: int, test_root: Roots = None) -> Split:
    """Flat folders of ImageNet photographs named ``WNID_name.JPEG``, split at random or as given.

    Args:
        root: the folder, or several.
        test_share: share of the photographs to test on.
        seed: of the split.
        test_root: a folder, or several, to test on; all of ``root`` is trained on then.

    Raises:
        UapError: a folder is missing, empty or named twice, or a file is named otherwise.
    """
    folders, test_folders = folders_of(root, test_root)
    listed, tested = _named(folders, "data.root"), _named(test_folders, "data.test_root")
    return replace(divided(listed, tested, test_share, seed), classes=1000)


def _named(folders: Sequence[Path], key: str) -> list[Photograph]:
    """The photographs of folders, with the classes that their names begin with."""
    wnids = {wnid: place for place, wnid in enumerate(imagenet_wnids())}
    photographs = []
    for file in (file for folder in folders for file in files_below(folder, key)):
        wnid = os.path.basename(file).split("_")[0]  # noqa: PTH119
        if wnid not in wnids:
            raise UapError(
                f"{file} does not begin with one of ImageNet's WordNet ids and an underscore: "
                "data=imagenet_sample takes files named as n01440764_tench.JPEG; use data=folder "
                "for others."
            )
        photographs.append(Photograph(file, wnids[wnid]))
    return photographs


def list_validation(
    root: str | None, devkit: str | None, images: int | None = None
) -> list[Photograph]:
    """The validation images in the order of their names, with their classes."""
    if not root:
        raise UapError(
            "data.root is not set: set data.root=FOLDER, or the environment variable "
            "IMAGENET_DIR, to ImageNet's validation set (ILSVRC2012_img_val.tar beside "
            "ILSVRC2012_devkit_t12.tar.gz, from https://image-net.org), choose data=folder for "
            "images of your own, or try the method without any by experiment=quickstart."
        )
    if str(root).endswith(".tar"):
        archive = Path(os.path.expanduser(str(root)))  # noqa: PTH111
        return _labelled(members(archive), archive, devkit, images)
    folder = required_folder(root)
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    if any(is_wnid(path.name) for path in folders):
        other = next((path for path in folders if not is_wnid(path.name)), None)
        if other is not None:
            raise UapError(
                f"{other} lies beside folders named by WordNet id: expected class folders alone "
                "in data.root; move it elsewhere."
            )
        return list_images(root)
    files = sorted(folder.glob("*.JPEG"))
    if not files:
        raise UapError(
            f"data.root is {root}, which holds neither class folders named by WordNet id nor "
            "ILSVRC2012_val_*.JPEG files: set it to the validation set."
        )
    return _labelled([Photograph(str(path), None) for path in files], folder, devkit, images)


def members(archive: Path) -> list[Photograph]:
    """The images inside an uncompressed tar file, read in place, in the order of their names.

    Raises:
        UapError: the file is no tar file, or is truncated.
    """
    if archive.exists() and not archive.is_file():
        raise UapError(f"{archive} is not a regular file: set data.root to a tar file.")
    try:
        with tarfile.open(archive, "r:") as file:
            found = [member for member in _forwards(file) if member.isfile()]
    except FileNotFoundError as error:
        raise UapError(f"data.root is {archive}, which does not exist: correct it.") from error
    except Exception as error:  # tarfile raises what it likes at a damaged file
        raise UapError(
            f"{archive} cannot be read as a tar file ({error}): it may be truncated; fetch it "
            "again."
        ) from error
    if not found:
        raise UapError(f"{archive} holds no file: set data.root to ILSVRC2012_img_val.tar.")
    return [
        Photograph(str(archive), None, member.name, member.offset_data, member.size)
        for member in sorted(found, key=lambda member: member.name)
    ]


def _forwards(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members one after another: a damaged file can lead back, and so without an end.

    Raises:
        tarfile.TarError: a member lies before the last, or what it holds is not there whole.
    """
    end = 0
    for member in archive:
        if member.offset < end or member.size < 0 or member.issparse():
            raise tarfile.TarError(f"{member.name} is no plain file of its own")
        end = member.offset_data + member.size
        yield member


def _labelled(
    photographs: Sequence[Photograph], place: Path, devkit: str | None, images: int | None
) -> list[Photograph]:
    """Validation images with their classes, by the number in each name."""
    source = _find_devkit(place, devkit)
    classes = ground_truth(source)
    if images is not None and len(classes) != images:
        raise UapError(
            f"{source} has the ground truth of {len(classes)} images: expected {images}; use the "
            "devkit's own file, or set data.source.images=null to work on a part."
        )
    labelled = []
    for photograph in photographs:
        match = re.search(r"ILSVRC2012_val_(\d{8})\.JPEG$", photograph.name)
        if match is None:
            raise UapError(
                f"{photograph.name} in {place} is not named as ILSVRC2012_val_00000001.JPEG: "
                "expected the untouched validation images; use data=folder for others."
            )
        number = int(match[1])
        if not 1 <= number <= len(classes):
            raise UapError(
                f"{source} has the ground truth of {len(classes)} images and {photograph.name} is "
                f"number {number}: expected one line for each image; use the devkit's own file."
            )
        labelled.append(photograph.labelled(classes[number - 1]))
    return labelled


def _find_devkit(place: Path, devkit: str | None) -> Path:
    candidates = [
        folder / name
        for folder in (place if place.is_dir() else place.parent, place.parent)
        for name in DEVKITS
    ]
    found = Path(devkit).expanduser() if devkit else next(filter(Path.exists, candidates), None)
    if found is None or not found.exists():
        raise UapError(
            f"data.source.devkit is {devkit}, and {place} holds images without classes: set "
            f"data.source.devkit to the folder {DEVKITS[0]} or to {DEVKITS[1]}, which carry the "
            "ground truth."
        )
    return found


@lru_cache(maxsize=1)
def ground_truth(devkit: Path) -> list[int]:
    """The class of each validation image, in the order of the 1,000 sorted WordNet ids.

    The devkit's file numbers the classes in an order of its own, which its ``meta.mat`` explains.

    Raises:
        UapError: one of the two files is missing, damaged, or names an unknown class.
    """
    lines = _devkit_file(devkit, GROUND_TRUTH).decode("ascii", "replace").split()
    content = io.BytesIO(_devkit_file(devkit, META))
    try:
        meta = scipy.io.loadmat(content, squeeze_me=True)  # type: ignore[arg-type]
        wnids = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in meta["synsets"]}
        order = {wnid: place for place, wnid in enumerate(imagenet_wnids())}
        return [order[wnids[int(line)]] for line in lines]
    except Exception as error:  # scipy raises what it likes at a damaged file
        raise UapError(
            f"{devkit} does not hold the ground truth of ILSVRC 2012 in {GROUND_TRUTH} and {META} "
            f"({error}): fetch the devkit again."
        ) from error


def _devkit_file(devkit: Path, name: str) -> bytes:
    try:
        if devkit.is_dir():
            return Photograph(str(devkit / name), None).read()
        with tarfile.open(devkit) as archive:
            for member in _forwards(archive):
                if member.offset_data + member.size > _DEVKIT_BYTES:
                    raise tarfile.TarError(f"it unpacks to more than {_DEVKIT_BYTES:,} bytes")
                if member.name.endswith(name) and (content := archive.extractfile(member)):
                    return content.read()
        raise tarfile.TarError(f"no member is named {name}")
    except Exception as error:  # tarfile raises what it likes at a damaged file
        raise UapError(
            f"data.source.devkit is {devkit}, which has no readable {name} ({error}): set it to "
            "the devkit of ILSVRC 2012, tasks 1 and 2."
        ) from error


def _check_whole(photographs: Sequence[Photograph], images: int, root: str | None) -> None:
    if len(photographs) != images:
        raise UapError(
            f"{root} holds {len(photographs)} validation images: expected {images}; complete it, "
            "or set data.source.images=null to work on a part."
        )
    seen = {photograph.label for photograph in photographs}
    missing = [wnid for place, wnid in enumerate(imagenet_wnids()) if place not in seen]
    if missing:
        raise UapError(
            f"{root} holds no image of class {missing[0]} ({len(missing)} of 1,000 classes are "
            "missing): complete it, or set data.source.images=null to work on a part."
        )
