"""Batches of images that are read while the one before is computed on."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from uap_lightning.data.crops import Images
from uap_lightning.perturbations.sampling import sent


def read_ahead(
    images: Images, batches: Sequence[Sequence[int]], device: torch.device
) -> Iterator[Tensor]:
    """The images of each batch, float N x 3 x H x W, 0-255, on the device.

    A thread reads the next batch meanwhile and, for a GPU, sends it from pinned memory.

    Args:
        images: to read.
        batches: the numbers of the images of each.
        device: where they go.
    """

    def read(numbers: Sequence[int]) -> Tensor:
        return sent(images.take(numbers), device)

    if not batches:
        return
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, batches[0])
        for numbers in batches[1:]:
            current, following = following, reader.submit(read, numbers)
            yield current.result().float()
        yield following.result().float()
