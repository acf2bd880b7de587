"""The latest images of a stream in which nothing was found, and how they are searched."""

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uap_lightning.streams.sketches import BITS, DESCRIBED, Sketches, sketch_scores

# Zeros and ones in turn, where no description was taken.
_HALF = np.uint64(0x5555555555555555)
# Images that room is made for at once.
_BLOCK = 256
# Numbers of a thumbnail.
SMALL = 256


class Memory:
    """A ring of the latest images: sketches and thumbnails of many, the pixels of some.

    Nothing in it refers to what the caller keeps, and all of it is in main memory, whatever device
    the images came from.

    Args:
        most: images whose sketches (1,024 and 448 bytes) and thumbnails (512 bytes) are kept.
        pixels: images that are kept whole.

    Attributes:
        numbers: of the image at each place, counted from the first ever added; -1 where none is.
        sketches: of each image's residual.
        described: sketches of its description.
        lengths: of each image's residual: 1, or less where it is nearly flat.
        thumbnails: of each, half precision.
        whole: by number, uint8, 3 x H x W; views that hold until the next image is added.
        seen: images added since the beginning.
    """

    def __init__(self, most: int, pixels: int) -> None:
        self.most = most
        self.pixels = pixels
        self.numbers: NDArray[np.int64] = np.full(most, -1, np.int64)
        # The system gives the pages of zeros away when they are written.
        self.sketches: Sketches = np.zeros((most, BITS // 64), np.uint64)
        self.described: Sketches = np.zeros((most, DESCRIBED // 64), np.uint64)
        self.lengths: NDArray[np.float32] = np.zeros(most, np.float32)
        self.thumbnails = torch.zeros(most, SMALL, dtype=torch.float16)
        self.whole: OrderedDict[int, Tensor] = OrderedDict()
        self._free: list[Tensor] = []
        self.seen = 0

    def __len__(self) -> int:
        return int((self.numbers >= 0).sum())

    def add(
        self,
        image: Tensor,
        words: Sketches,
        length: float,
        thumbnail: Tensor,
        described: Sketches | None = None,
    ) -> None:
        """Remember an image (uint8, 3 x H x W); the oldest makes room."""
        place = self.seen % self.most
        self.numbers[place] = self.seen
        self.sketches[place] = words
        # Nothing agrees with half of the bits but by chance.
        self.described[place] = _HALF if described is None else described
        self.lengths[place] = length
        self.thumbnails[place] = thumbnail
        self.keep(self.seen, image)
        self.seen += 1

    def keep(self, number: int, image: Tensor) -> None:
        """Keep the pixels of an image (uint8, 3 x H x W); those of the oldest make room."""
        if not self._free and len(self.whole) < self.pixels:
            # Many at once: thousands of small pieces leave holes that nothing larger fits into.
            more = min(_BLOCK, self.pixels - len(self.whole))
            self._free += torch.empty(more, *image.shape, dtype=torch.uint8).unbind()
        if not self._free:
            self._let_go(next(iter(self.whole)))
        self.whole[number] = self._free.pop().copy_(image)

    def _let_go(self, number: int) -> None:
        place = self.whole.pop(number, None)
        if place is not None:
            self._free.append(place)

    def search(self, words: Sketches) -> NDArray[np.float32]:
        """Deviations by which a sketch agrees with that of each place; -infinity of empty ones."""
        return self._search(words, self.sketches)

    def search_described(self, words: Sketches) -> NDArray[np.float32]:
        """The same of the sketch of a description."""
        return self._search(words, self.described)

    def _search(self, words: Sketches, among: Sketches) -> NDArray[np.float32]:
        filled = min(self.seen, self.most)
        found = sketch_scores(words[None], among[:filled])
        found[:, self.numbers[:filled] < 0] = -np.inf
        return found.reshape(-1)

    def forget(self, places: Iterable[int]) -> None:
        """Let go of the images at these places."""
        for place in places:
            self._let_go(int(self.numbers[place]))
            self.numbers[place] = -1
