"""The folders that ``data.root`` and ``data.test_root`` name: one each, or several."""

import os
from collections.abc import Sequence
from pathlib import Path

from uap_lightning.core.errors import UapError

# One folder or a list of them.
Roots = str | Sequence[str] | None


def folders_of(root: Roots, test_root: Roots = None) -> tuple[list[Path], list[Path]]:
    """The folders of both keys; none of the second where it is None.

    Args:
        root: one folder or several, whose photographs are split, or trained on alone.
        test_root: one folder or several, whose photographs are tested on; None where test
            photographs are drawn from those of ``root``.

    Raises:
        UapError: one is not set or no folder, is named twice, or holds another.
    """
    folders = _folders(root, "data.root")
    tested = [] if test_root is None else _folders(test_root, "data.test_root")
    named = [("data.root", path) for path in folders] + [("data.test_root", p) for p in tested]
    for number, (key, path) in enumerate(named):
        for earlier, other in named[:number]:
            one, two = path.resolve(), other.resolve()
            if one.is_relative_to(two) or two.is_relative_to(one):
                raise UapError(
                    f"{key} names {path}, which is, holds or lies in {other} of {earlier}: name "
                    "each folder once, and test on folders of their own."
                )
    return folders, tested


def required_folder(root: str | None, key: str = "data.root") -> Path:
    """The folder that a key names.

    Raises:
        UapError: it is not set, or no folder.
    """
    if not root:
        raise UapError(
            f"{key} is not set: set {key}=FOLDER to the folder that holds the images, or try the "
            "method without any by experiment=quickstart."
        )
    # Unlike those of Path, these two raise nothing at a name that cannot be.
    folder = os.path.expanduser(str(root))  # noqa: PTH111
    if not os.path.isdir(folder):  # noqa: PTH112
        raise UapError(
            f"{key} is {root}, which is not a folder: set {key}=FOLDER to the folder that holds "
            "the images."
        )
    return Path(folder)


def _folders(root: Roots, key: str) -> list[Path]:
    if isinstance(root, Sequence) and not isinstance(root, str):
        return [required_folder(name, key) for name in root] or [required_folder(None, key)]
    return [required_folder(root, key)]
