"""Whether two images show the same photograph, which is no evidence of a shared pattern."""

from torch import Tensor
from torch.nn import functional

_SIDE = 16
# Correlation of the thumbnails of near duplicates and of neighbouring frames of a video.
SAME = 0.95
# Deviation, in pixel units, below which a thumbnail shows nothing to compare.
_FLAT = 0.5


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
