"""Crops of cached photographs, as uint8 tensors."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from uap_lightning.data.cache import ImageCache
from uap_lightning.data.decoding import Pixels


class Images(Protocol):
    """Anything that hands out images by number; what attacks craft on."""

    def __len__(self) -> int:
        """How many images there are."""

    def take(self, numbers: Sequence[int]) -> Tensor:
        """The images with these numbers: uint8, N x 3 x H x W, RGB."""


class TensorImages:
    """Images of a tensor, for attacks.

    Args:
        images: uint8, N x 3 x H x W, RGB.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def take(self, numbers: Sequence[int]) -> Tensor:
        """See :meth:`Images.take`."""
        return self.images[list(numbers)]


class Crop(TypedDict):
    """One item of a :class:`CropDataset`, or a batch of them."""

    image: Tensor
    number: Tensor
    photograph: Tensor
    label: Tensor
    prediction: Tensor


class CropDataset(Dataset[Crop]):
    """Crops of some of a cache's photographs.

    Args:
        cache: decoded photographs.
        photographs: which of them, by number in the cache.
        labels: true class of each, -1 where it is not known.
        size: side of the crops in pixels.
        count: crops of each photograph: the centre, the four corners, then random places.
        seed: of the random places.

    Attributes:
        photograph: number in the cache of the photograph that each crop is from (int64).
        label: true class of each crop (int64, -1 where not known).
        origins: top and left of each crop (int32, crops x 2).
        prediction: class that the target network gives the clean crop (int64, -1 until set).
    """

    def __init__(
        self,
        cache: ImageCache,
        photographs: Sequence[int],
        labels: Sequence[int],
        size: int,
        count: int,
        seed: int,
    ) -> None:
        self.cache = cache
        self.size = size
        self.photograph = torch.tensor(photographs).repeat_interleave(count)
        self.label = torch.tensor(labels).repeat_interleave(count)
        self.prediction = torch.full_like(self.label, -1)
        # Tensors, because as many tuples take ten times the memory.
        origins = array("i")
        for number in photographs:
            for origin in crop_origins(*cache.size(number), size, count, seed + number):
                origins.extend(origin)
        self.origins = torch.tensor(origins, dtype=torch.int32).view(-1, 2)

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, number: int) -> Crop:
        return {
            "image": self.pixels(number),
            "number": torch.tensor(number),
            "photograph": self.photograph[number],
            "label": self.label[number],
            "prediction": self.prediction[number],
        }

    def pixels(self, number: int) -> Tensor:
        """One crop: uint8, 3 x size x size, RGB."""
        top, left = self.origins[number].tolist()
        image = self.cache[int(self.photograph[number])]
        crop = image[:, top : top + self.size, left : left + self.size]
        return torch.from_numpy(crop.copy())

    def take(self, numbers: Sequence[int]) -> Tensor:
        """The crops with these numbers: uint8, N x 3 x size x size, RGB."""
        return torch.stack([self.pixels(number) for number in numbers])

    def description(self) -> dict[str, object]:
        """What decides the pixels of this set, for digests."""
        return {
            "pixels": self.cache.digest,
            "photographs": self.photograph.tolist(),
            "size": self.size,
            "origins": self.origins.tolist(),
        }


class StepBatches(Sampler[list[int]]):
    """Shuffled batches that depend on the seed and the step alone.

    Training that goes on after an interruption sees the batches it would have seen. Of several
    processes, each takes every ``processes``-th item of the same batches.

    Args:
        count: items to draw from; every item comes once before any comes again.
        batch_size: items a batch; the last one before a new round may have fewer.
        seed: of the order.
        step: tells the number of the step that the next iteration starts at.
        rank: number of this process.
        processes: how many share a batch.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        step: Callable[[], int],
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.step = step
        self.rank = rank
        self.processes = processes
        # Of the round at hand: to shuffle 200,000 crops anew takes as long as some steps.
        self._turn, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        start = self.step()
        for step in range(start, start + len(self)):
            batch = self.batch(step)
            yield [batch[position] for position in self.positions(step)]

    def size(self, step: int) -> int:
        """Items of a step, over all processes."""
        first = step % len(self) * self.batch_size
        return min(self.batch_size, self.count - first)

    def positions(self, step: int) -> list[int]:
        """The places in the step's batch of this process's items.

        With fewer items than processes some would have none: they take the first, which
        :meth:`weight` leaves out of the loss.
        """
        return list(range(self.rank, self.size(step), self.processes)) or [0]

    def weight(self, step: int) -> float:
        """What this process's mean counts for, so that the mean over processes is the batch's."""
        own = len(range(self.rank, self.size(step), self.processes))
        return own * self.processes / self.size(step)

    def batch(self, step: int) -> list[int]:
        """The items of one step, of all processes."""
        turn, position = divmod(step, len(self))
        if turn != self._turn:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + turn)
            self._turn, self._order = turn, torch.randperm(self.count, generator=generator)
        first = position * self.batch_size
        return self._order[first : first + self.batch_size].tolist()


def crop_origins(
    height: int, width: int, size: int, count: int, seed: int
) -> list[tuple[int, int]]:
    """Top-left corners of ``count`` crops: centre, four corners, then random places.

    Args:
        height: of the image, at least ``size``.
        width: of the image, at least ``size``.
        size: side of the crops.
        count: at least 1; 5 gives the paper's crops.
        seed: of the random places.
    """
    bottom, right = height - size, width - size
    fixed = [(bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right)]
    if count <= len(fixed):  # nothing is drawn, which a large collection has no time for
        return fixed[:count]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand((count - len(fixed), 2), generator=generator)
    places = (drawn * torch.tensor([bottom + 1, right + 1])).long().tolist()
    return fixed + [(top, left) for top, left in places]


def central(pixels: Pixels, size: int) -> Pixels:
    """The central square of an image, H x W x 3: a copy, so that the rest is let go."""
    height, width = pixels.shape[:2]
    [(top, left)] = crop_origins(height, width, size, 1, seed=0)
    return pixels[top : top + size, left : left + size].copy()
