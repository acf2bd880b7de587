"""Any folder of images: flat, or one folder a class."""

from dataclasses import replace
from pathlib import Path

from uap_lightning.core.errors import UapError
from uap_lightning.data.imagenet_classes import imagenet_wnids, is_wnid
from uap_lightning.data.photographs import Photograph, Split, random_split

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def image_folder(root: str | None, test_share: float, seed: int) -> Split:
    """The images of a folder, split at random.

    Sub-folders are classes: folders named by WordNet id get ImageNet's class index, others get
    their place in alphabetical order, as torchvision's ``ImageFolder`` numbers them. A flat
    folder has no labels; its results are then counted against the network's own predictions.

    Args:
        root: the folder.
        test_share: share of the photographs to test on.
        seed: of the split.

    Raises:
        UapError: the folder is not set, missing or empty, or holds a file that is no image.
    """
    photographs = list_images(root)
    split = random_split(photographs, test_share, seed)
    names = {p.path.relative_to(Path(str(root)).expanduser()).parts[0] for p in photographs}
    numbered = photographs[0].label is not None and not all(map(is_wnid, names))
    return replace(split, numbered_classes=len(names) if numbered else None)


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
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UapError(
            f"data.root is {root}, which is not a folder: set data.root=FOLDER to the folder "
            "that holds the images."
        )
    return folder


def files_below(folder: Path) -> list[Path]:
    """The image files below a folder in alphabetical order; hidden ones are left out.

    Raises:
        UapError: there is none, or a file is no image by its name.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(folder).parts)
    )
    if not files:
        raise UapError(f"data.root is {folder}, which holds no image: put images in it.")
    stranger = next((path for path in files if path.suffix.lower() not in SUFFIXES), None)
    if stranger is not None:
        raise UapError(
            f"{stranger} is not an image file: data.root takes a folder with nothing but images "
            f"({', '.join(sorted(SUFFIXES))}); move it elsewhere."
        )
    return files


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
