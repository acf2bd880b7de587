"""From the files of a folder to rows: decoded ahead by threads, cropped, judged by the guard."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from math import isfinite
from pathlib import Path

import numpy as np
import torch

from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import central
from uap_lightning.data.decoding import CorruptImage, Pixels, read_pixels
from uap_lightning.data.imagenet_classes import class_names
from uap_lightning.data.photographs import Photograph
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.part import COLUMNS, Row, name_of

# Batches that are decoded ahead of the guard: memory does not grow with the folder.
_AHEAD = 2
# Each with its crop, or with the reason why there is none.
Files = list[tuple[Path, Pixels | str]]
# Of a resized short side: a defence folder of others may ask for anything.
LARGEST = 4096


def rows(
    guard: Guard,
    root: Path,
    read: Callable[[Path], Pixels],
    names: list[str],
    batch_size: int,
    workers: int,
    skip: int = 0,
) -> Iterator[Row]:
    """One row a file, in the order of :func:`files_below`, while threads decode what comes next.

    Args:
        guard: on the device to compute on.
        root: the folder, or one file.
        read: returns the crop of a file, size x size x 3; see :func:`reader`.
        names: of the classes.
        batch_size: images a forward pass.
        workers: threads that decode. Pillow frees the interpreter while it decodes and resizes.
        skip: files that are done already.
    """
    parent = root if root.is_dir() else root.parent
    files = islice(files_below(root), skip, None)
    for batch in decoded(files, read, batch_size, workers):
        yield from judged(guard, batch, names, parent)


def judged(guard: Guard, batch: Files, names: list[str], parent: Path) -> list[Row]:
    """The rows of a batch of :func:`decoded`.

    Args:
        guard: on the device to compute on.
        batch: files with their crops.
        names: of the classes.
        parent: the folder that names of files are relative to.
    """
    crops = [found for _, found in batch if not isinstance(found, str)]
    answers: Iterator[tuple[int, float, bool, float]] = iter(())
    if crops:
        device = guard.network.mean.device
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(device)
        seen = guard.inspect(images)
        confidences, labels = seen.logits.softmax(1).max(1)
        answers = zip(
            labels.tolist(),
            confidences.tolist(),
            seen.perturbed.tolist(),
            seen.score.tolist(),
            strict=True,
        )
    rows: list[Row] = []
    for path, found in batch:
        row: Row = dict.fromkeys(COLUMNS)
        row["file"] = name_of(path, parent)
        if isinstance(found, str):
            row["error"] = found
        else:
            label, confidence, perturbed, score = next(answers)
            if not isfinite(confidence + score):
                row["error"] = "the network or the detector returned a value that is not finite"
            else:
                row |= {"label": label, "class": names[label], "confidence": confidence}
                row |= {"perturbed": perturbed, "score": score}
        rows.append(row)
    return rows


def decoded(
    files: Iterator[Path], read: Callable[[Path], Pixels], batch_size: int, workers: int
) -> Iterator[Files]:
    """Batches of files, each with its crop or the reason why there is none."""

    def attempt(path: Path) -> Pixels | str:
        try:
            if not path.is_file():  # a pipe would be waited for
                return f"{path} is not a file, or a link to none: remove it."
            return read(path)
        except CorruptImage as error:
            return f"{error.reason}: replace it or move it elsewhere."
        except Exception as error:  # decoders of damaged files raise what they like
            return f"{path} cannot be decoded ({type(error).__name__}: {error}): replace it."

    waiting: deque[tuple[tuple[Path, ...], list[Future[Pixels | str]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        while paths := tuple(islice(files, batch_size)):
            waiting.append((paths, [pool.submit(attempt, path) for path in paths]))
            if len(waiting) > _AHEAD:
                ready, found = waiting.popleft()
                yield [(p, f.result()) for p, f in zip(ready, found, strict=True)]
        for ready, found in waiting:
            yield [(p, f.result()) for p, f in zip(ready, found, strict=True)]


def files_below(root: Path) -> Iterator[Path]:
    """The files below a folder, hidden ones apart, each folder in alphabetical order.

    Links to folders are not followed.

    Raises:
        UapError: there is no such folder or file, or a folder may not be read.
    """
    if root.is_file():
        yield root
        return
    if not root.is_dir():
        raise UapError(f"images is {root}, which does not exist: give a folder of images.")
    for folder, folders, files in os.walk(root, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def _unreadable(error: OSError) -> None:
    raise UapError(
        f"the folder {error.filename} cannot be read ({error.strerror}): remove it or allow it."
    ) from error


def reader(guard: Guard, resize: int | None) -> partial[Pixels]:
    """The function that reads a file as the guard takes it: uint8, size x size x 3.

    Args:
        guard: loaded from a folder.
        resize: of :func:`short_side`.

    Raises:
        UapError: as there.
    """
    return partial(_read_crop, size=guard.defense.size, short=short_side(guard, resize))


def short_side(guard: Guard, resize: int | None) -> int:
    """The short side that images are brought to before the centre crop, in pixels.

    Args:
        guard: loaded from a folder.
        resize: what is asked for; as in training when None, or 8/7 of the crop (256 for 224) where
            training took photographs as they are. Smaller images are enlarged.

    Raises:
        UapError: ``resize``, or that of training, is smaller than the crop or above 4096.
    """
    size = guard.defense.size
    if resize is None:
        trained = guard.defense.condition.get("resize")
        resize = trained if isinstance(trained, int) else round(size * 8 / 7)
    if not size <= resize <= LARGEST:
        raise UapError(
            f"resize is {resize}: expected at least {size}, the size the defence takes, and at "
            f"most {LARGEST}."
        )
    return resize


def _read_crop(path: Path, size: int, short: int) -> Pixels:
    return central(read_pixels(Photograph(str(path), None), resize=short, smallest=1), size)


def read_names(path: str | None, guard: Guard) -> list[str]:
    """The class names of a text file, one a line, or those that are known without one.

    Raises:
        UapError: the file cannot be read, or has another number of lines than there are classes.
    """
    count = guard.network.classes(guard.defense.size)
    if path is None:
        return class_names(count)
    try:
        names = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise UapError(
            f"class_names is {path}, which cannot be read ({error}): give a text file."
        ) from error
    if len(names) != count:
        raise UapError(
            f"{path} has {len(names)} lines: expected {count}, a name for each class of the "
            f"network {guard.network.name}."
        )
    return names
