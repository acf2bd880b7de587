"""Whether two images show the same photograph, which is no evidence of a shared pattern."""

import torch
from torch import Tensor
from torch.nn import functional

_SIDE = 16
# Correlation of the thumbnails of near duplicates and of neighbouring frames of a video.
SAME = 0.95
# Deviation, in pixel units, below which a thumbnail shows nothing to compare.
_FLAT = 0.5
# Parts of a side that are compared one by one, and cells of a side of each.
_PARTS = 4
_CELLS = 8
# Correlation of parts that show the same, and how many must: by chance a single one may.
_SAME_PART = 0.9
_ALIKE = 2
# Deviation, in pixel units, below which a part is not compared: a smooth pattern would be alike.
_BUSY = 8.0


def thumbnails(images: Tensor) -> Tensor:
    """Grey 16 x 16 thumbnails, centred and of length 1; zeros of an image of one colour.

    Args:
        images: N x 3 x H x W, 0-255.

    Returns:
        N x 256.
    """
    small = functional.adaptive_avg_pool2d(images.float().mean(dim=1, keepdim=True), _SIDE)
    centred = small.flatten(1) - small.flatten(1).mean(dim=1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    flat = length < _FLAT * _SIDE
    unit: Tensor = (centred / length.clamp_min(1e-6)).masked_fill(flat, 0.0)
    return unit


def same_photograph(some: Tensor, others: Tensor) -> Tensor:
    """Which thumbnails show one photograph: N x 256 and M x 256 to bool N x M.

    Two images of one colour each count as one photograph.
    """
    empty = (some == 0).all(dim=1)[:, None] & (others == 0).all(dim=1)[None]
    same: Tensor = (some @ others.T > SAME) | empty
    return same


def same_scene(image: Tensor, others: Tensor) -> Tensor:
    """Which images show a part of what another shows, in the same place: bool N.

    Crops of one photograph, or frames of a camera that turns, lie on one another once they are
    moved. Parts of 1 / 16 are compared, so that seams and what only one of them shows do not count.

    Args:
        image: 3 x H x W, 0-255.
        others: N x 3 x H x W, 0-255.
    """
    side = _PARTS * _CELLS
    grey = torch.cat([image[None], others]).float().mean(dim=1, keepdim=True)
    small = functional.adaptive_avg_pool2d(grey, side)
    parts = functional.unfold(small, _CELLS, stride=_CELLS)  # N x cells of a part x parts
    centred = parts - parts.mean(dim=1, keepdim=True)
    deviation = centred.square().mean(dim=1).sqrt()
    product = (centred[:1] * centred[1:]).mean(dim=1) / (deviation[:1] * deviation[1:] + 1e-6)
    busy = (deviation[:1] > _BUSY) & (deviation[1:] > _BUSY)
    same: Tensor = ((product > _SAME_PART) & busy).sum(dim=1) >= _ALIKE
    return same
