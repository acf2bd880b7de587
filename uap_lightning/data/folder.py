"""Any folder of images: flat, or one folder a class."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from uap_lightning.core.errors import UapError
from uap_lightning.data.decoding import FORMATS
from uap_lightning.data.imagenet_classes import imagenet_wnids, is_wnid
from uap_lightning.data.photographs import Photograph, Split, divided
from uap_lightning.data.roots import Roots, folders_of

# Folders inside one another: more are a mistake.
_DEEPEST = 100

# An image file and the class folder that it lies in.
Listed = tuple[str, str | None]


def image_folder(root: Roots, test_share: float, seed: int, test_root: Roots = None) -> Split:
    """The images of folders, split at random or as the folders are.

    Sub-folders are classes: folders named by WordNet id get ImageNet's class index, others get
    their place in alphabetical order, as torchvision's ``ImageFolder`` numbers them. A flat
    folder has no labels; its results are then counted against the network's own predictions.
    Links to folders and files are followed. Several folders are numbered as if they were one.

    Args:
        root: the folder, or several.
        test_share: share of the photographs to test on.
        seed: of the split.
        test_root: a folder, or several, to test on; all of ``root`` is trained on then.

    Raises:
        UapError: a folder is not set, missing, empty or named twice, or holds a file that is no
            image; one of ``test_root`` has a class that ``root`` has not.
    """
    folders, test_folders = folders_of(root, test_root)
    listed = _with_classes(folders, "data.root")
    tested = _with_classes(test_folders, "data.test_root")
    numbers = _numbering(listed, tested)
    split = divided(_labelled(listed, numbers), _labelled(tested, numbers), test_share, seed)
    return replace(split, classes=len(numbers) or None)


def list_images(root: Roots) -> list[Photograph]:
    """The images below ``root`` in alphabetical order, with labels where folders are classes."""
    listed = _with_classes(folders_of(root)[0], "data.root")
    return _labelled(listed, _numbering(listed, []))


def files_below(folder: Path, key: str = "data.root") -> list[str]:
    """The image files below a folder in alphabetical order; hidden ones are left out.

    Raises:
        UapError: there is none, a file is no image by its name, a folder cannot be read, or a
            link leads to nothing or in a circle.
    """
    try:
        # In the order of paths: what is in a folder stands together.
        files = sorted(_walk(str(folder), ()), key=lambda name: name.replace(os.sep, "\0"))
    except OSError as error:
        raise UapError(
            f"{error.filename} below {key} cannot be read ({error.strerror}): remove it or "
            "allow it."
        ) from error
    if not files:
        raise UapError(f"{key} is {folder}, which holds no image: put images in it.")
    for name in files:
        if os.path.splitext(name)[1].lower() not in FORMATS:  # noqa: PTH122
            raise UapError(
                f"{name} is not an image file: {key} takes a folder with nothing but images "
                f"({', '.join(FORMATS)}); move it elsewhere."
            )
        if not os.path.isfile(name):  # noqa: PTH113
            # A pipe would be waited for.
            raise UapError(f"{name} is not a file, or a link to none: remove it.")
    return files


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """What lies below a folder and is no folder; ``above`` are the folders that this one is in."""
    status = os.stat(folder)  # noqa: PTH116
    here = (status.st_dev, status.st_ino)
    if here in above or len(above) > _DEEPEST:
        raise UapError(
            f"{folder} is a link to a folder that it lies in, or lies more than {_DEEPEST} "
            "folders deep: remove it."
        )
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = _start(folder) + entry.name
            if entry.is_dir():
                yield from _walk(name, (*above, here))
            else:
                yield name


def _start(folder: str) -> str:
    """What the names of files in a folder begin with, as in a ``Path`` of each."""
    return "" if folder == "." else os.path.join(folder, "")  # noqa: PTH118


def _with_classes(folders: Sequence[Path], key: str) -> list[Listed]:
    """The images of folders, with the class folders that they lie in."""
    found: list[Listed] = []
    for folder in folders:
        files = files_below(folder, key)
        start = len(_start(str(folder)))
        classes: dict[str, str] = {}
        flat: str | None = None
        for name in files:
            first, inside, _ = name[start:].partition(os.sep)
            if inside:
                found.append((name, classes.setdefault(first, first)))
            else:
                flat = flat or name
                found.append((name, None))
        if classes and flat is not None:
            raise UapError(
                f"{flat} lies beside class folders such as {min(classes)}: expected either images "
                f"alone or class folders alone in {key}."
            )
    return found


def _numbering(listed: Sequence[Listed], tested: Sequence[Listed]) -> dict[str, int]:
    """The index of each class; those that are tested on are classes of the others."""
    known, asked = ({name for _, name in side if name is not None} for side in (listed, tested))
    if known | asked and all(map(is_wnid, known | asked)):
        return {wnid: place for place, wnid in enumerate(imagenet_wnids())}
    return {name: place for place, name in enumerate(sorted(known or asked))}


def _labelled(listed: Sequence[Listed], numbers: Mapping[str, int]) -> list[Photograph]:
    for path, name in listed:
        if name is not None and name not in numbers:
            whose = "ImageNet's 1,000 WordNet ids" if len(numbers) == 1000 else "data.root's"
            raise UapError(
                f"{path} lies in a class folder {name}, which is not one of {whose}: remove it or "
                "rename it."
            )
    return [Photograph(path, None if name is None else numbers[name]) for path, name in listed]
