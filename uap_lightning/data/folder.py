"""Any folder of images: flat, or one folder a class."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from uap_lightning.core.errors import UapError
from uap_lightning.data.decoding import FORMATS
from uap_lightning.data.imagenet_classes import imagenet_wnids, is_wnid
from uap_lightning.data.photographs import Photograph, Split, random_split

# Folders inside one another: more are a mistake.
_DEEPEST = 100


def image_folder(root: str | None, test_share: float, seed: int) -> Split:
    """The images of a folder, split at random.

    Sub-folders are classes: folders named by WordNet id get ImageNet's class index, others get
    their place in alphabetical order, as torchvision's ``ImageFolder`` numbers them. A flat
    folder has no labels; its results are then counted against the network's own predictions.
    Links to folders and files are followed.

    Args:
        root: the folder.
        test_share: share of the photographs to test on.
        seed: of the split.

    Raises:
        UapError: the folder is not set, missing or empty, or holds a file that is no image.
    """
    photographs = list_images(root)
    split = random_split(photographs, test_share, seed)
    if photographs[0].label is None:
        return split
    top = len(required_folder(root).parts)
    names = {photograph.path.parts[top] for photograph in photographs}
    return replace(split, classes=1000 if all(map(is_wnid, names)) else len(names))


def list_images(root: str | None) -> list[Photograph]:
    """The images below ``root`` in alphabetical order, with labels where folders are classes."""
    folder = required_folder(root)
    files = files_below(folder)
    classes = sorted({path.relative_to(folder).parts[0] for path in files if path.parent != folder})
    if not classes:
        return [Photograph(path, None) for path in files]
    flat = next((path for path in files if path.parent == folder), None)
    if flat is not None:
        raise UapError(
            f"{flat} lies beside class folders such as {classes[0]}: expected either images "
            "alone or class folders alone in data.root."
        )
    index = _class_indices(classes, folder)
    return [Photograph(path, index[path.relative_to(folder).parts[0]]) for path in files]


def required_folder(root: str | None) -> Path:
    """The folder that ``data.root`` names.

    Raises:
        UapError: it is not set, or no folder.
    """
    if not root:
        raise UapError(
            "data.root is not set: set data.root=FOLDER to the folder that holds the images, or "
            "try the method without any by experiment=quickstart."
        )
    # Unlike those of Path, these two raise nothing at a name that cannot be.
    folder = os.path.expanduser(str(root))  # noqa: PTH111
    if not os.path.isdir(folder):  # noqa: PTH112
        raise UapError(
            f"data.root is {root}, which is not a folder: set data.root=FOLDER to the folder "
            "that holds the images."
        )
    return Path(folder)


def files_below(folder: Path) -> list[Path]:
    """The image files below a folder in alphabetical order; hidden ones are left out.

    Raises:
        UapError: there is none, a file is no image by its name, a folder cannot be read, or a
            link leads to nothing or in a circle.
    """
    try:
        files = sorted(_walk(folder, ()))
    except OSError as error:
        raise UapError(
            f"{error.filename} below data.root cannot be read ({error.strerror}): remove it or "
            "allow it."
        ) from error
    if not files:
        raise UapError(f"data.root is {folder}, which holds no image: put images in it.")
    for path in files:
        if path.suffix.lower() not in FORMATS:
            raise UapError(
                f"{path} is not an image file: data.root takes a folder with nothing but images "
                f"({', '.join(FORMATS)}); move it elsewhere."
            )
        if not path.is_file():  # a pipe would be waited for
            raise UapError(f"{path} is not a file, or a link to none: remove it.")
    return files


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """What lies below a folder and is no folder; ``above`` are the folders that this one is in."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above or len(above) > _DEEPEST:
        raise UapError(
            f"{folder} is a link to a folder that it lies in, or lies more than {_DEEPEST} "
            "folders deep: remove it."
        )
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, (*above, here))
        else:
            yield path


def _class_indices(classes: list[str], root: Path) -> dict[str, int]:
    if not all(map(is_wnid, classes)):
        return {name: place for place, name in enumerate(classes)}
    wnids = imagenet_wnids()
    unknown = [name for name in classes if name not in wnids]
    if unknown:
        raise UapError(
            f"{root} has a class folder {unknown[0]}, which is not one of ImageNet's 1,000 "
            "WordNet ids: remove it or rename it."
        )
    return {name: wnids.index(name) for name in classes}
