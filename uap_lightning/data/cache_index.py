"""The index of a decode-once cache: where each image lies, and what it is known by."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, read_tensors, write_tensors

INDEX = "index.safetensors"

# Bytes of the digests of an image's pixels and of its file.
PIXELS_DIGEST, CONTENTS_DIGEST = 32, 16

_MOST_PIXELS = 2**60


@dataclass(frozen=True)
class Index:
    """What ``pixels.bin`` holds, one row a photograph.

    Tensors, because lists of texts take ten times the memory, which grows with the collection.

    Attributes:
        sizes: height and width, int64 N x 2; 0 and 0 where a photograph could not be decoded.
        pixels: SHA-256 of the pixels, uint8 N x 32.
        contents: digest of the file they were decoded from, uint8 N x 16.
        stamp: size and time of change of the ``pixels.bin`` that was found to be so, int64 2.
    """

    sizes: Tensor
    pixels: Tensor
    contents: Tensor
    stamp: Tensor

    def write(self, folder: Path) -> None:
        """Write it beside the pixels."""
        write_tensors(folder / INDEX, vars(self), {})


def read_index(folder: Path) -> Index:
    """The index of a cache.

    Raises:
        UapError: there is none, or its tensors are not those of an :class:`Index`.
    """
    try:
        tensors, _ = read_tensors(folder / INDEX)
        index = Index(**tensors)
    except (UapError, TypeError) as error:
        raise UapError(
            f"{folder / INDEX} is not the index of an image cache ({error}): remove the folder "
            "that it lies in and run the same command again."
        ) from error
    count = len(index.sizes) if index.sizes.ndim else -1
    expected = {
        "sizes": ((count, 2), torch.int64),
        "pixels": ((count, PIXELS_DIGEST), torch.uint8),
        "contents": ((count, CONTENTS_DIGEST), torch.uint8),
        "stamp": ((2,), torch.int64),
    }
    for name, (shape, kind) in expected.items():
        found = tensors[name]
        if found.shape != shape or found.dtype != kind:
            said = f"{name} of {INDEX} is {found.dtype} of shape {tuple(found.shape)}"
            raise damaged(folder, said)
    # Sums of more bytes than any disk has would come round to small numbers.
    if (index.sizes < 0).any() or index.sizes.double().prod(1).sum() > _MOST_PIXELS:
        raise damaged(folder, f"{INDEX} has a negative size or one beyond any disk")
    return index


def damaged(folder: Path, problem: str) -> UapError:
    """The error to raise where a cache is not as it was written."""
    return UapError(
        f"the image cache {folder} is damaged ({problem}): remove that folder and run the same "
        "command again."
    )


def texts(digests: Tensor) -> list[str]:
    """Digests, uint8 N x length, in hexadecimal."""
    width = digests.shape[1]
    whole = digests.numpy().tobytes()
    return [whole[i : i + width].hex() for i in range(0, len(whole), width)]


def digest_of_texts(digests: Tensor) -> str:
    """``digest_of`` of the list of texts, without the list."""
    if not len(digests):
        return digest_of([])
    listed = digests.numpy().tobytes().hex(" ", digests.shape[1]).replace(" ", '", "')
    return hashlib.sha256(f'["{listed}"]'.encode()).hexdigest()
