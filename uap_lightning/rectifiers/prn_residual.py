"""A residual PRN at half resolution, for small collections and fast use."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.rectifiers.ranges import check_range

# Pixel units that the last convolution's output is counted in: larger ones overshoot at first.
GAIN = 4.0
IMAGE_SPREAD = 64.0
# The high-pass part is scaled by about its spread under a perturbation of 10, and its edges cut.
HIGH_PASS_SPREAD = 12.0
HIGH_PASS_LIMIT = 4.0


class Block(nn.Module):
    """Adds convolution, ReLU, convolution to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """N x C x H x W to the same shape."""
        added: Tensor = self.second(functional.relu(self.first(maps)))
        return maps + added


def _sum_of_seven(maps: Tensor, dim: int) -> Tensor:
    """The sum of each seven neighbours along a dimension, which becomes six shorter.

    Four sums of shifted copies take a quarter of the time of PyTorch's average pooling, or less.
    """
    count = maps.shape[dim]
    two = maps.narrow(dim, 0, count - 1) + maps.narrow(dim, 1, count - 1)
    four = two.narrow(dim, 0, count - 3) + two.narrow(dim, 2, count - 3)
    six = four.narrow(dim, 0, count - 5) + two.narrow(dim, 4, count - 5)
    return six.narrow(dim, 0, count - 6) + maps.narrow(dim, 6, count - 6)


class ResidualPRN(nn.Module):
    """Adds a correction to the image, computed on blocks of pixels.

    The input is the image beside its high-pass part, x minus its 7 x 7 mean, in which a
    perturbation stands out from the first step of training. Pixel-unshuffle by 2, convolution to
    ``width`` maps, residual blocks; a second scale with twice the maps at half that resolution;
    convolution back, pixel-shuffle. The last convolution starts at zero, so that training starts
    from the identity. The rectified image is clamped to 0-255. Sides that 4 does not divide are
    padded and cropped.

    Args:
        width: feature maps at half resolution, 1-128.
        blocks: residual blocks at the second scale, 0-20; half as many stand before it and after.

    Raises:
        UapError: one of them is out of its range.
    """

    residual = True  # predicts what to add to the image

    def __init__(self, width: int = 32, blocks: int = 2) -> None:
        super().__init__()
        check_range("width", width, 1, 128)
        check_range("blocks", blocks, 0, 20)
        self.head = nn.Conv2d(24, width, 3, padding=1)
        self.before = nn.Sequential(*(Block(width) for _ in range(blocks // 2)))
        self.coarse = nn.Sequential(
            nn.Conv2d(width, 2 * width, 2, stride=2),
            *(Block(2 * width) for _ in range(blocks)),
            nn.Conv2d(2 * width, 4 * width, 1),
            nn.PixelShuffle(2),
        )
        self.after = nn.Sequential(*(Block(width) for _ in range(blocks // 2)))
        self.tail = nn.Conv2d(width, 12, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Rectified images of images: float N x 3 x H x W, 0-255, to the same shape."""
        height, width = images.shape[-2:]
        padded = functional.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        wide = functional.pad(padded, (3, 3, 3, 3), mode="reflect")
        mean = _sum_of_seven(_sum_of_seven(wide, 3), 2) / 49
        high = ((padded - mean) / HIGH_PASS_SPREAD).clamp(-HIGH_PASS_LIMIT, HIGH_PASS_LIMIT)
        both = torch.cat([(padded - 127.5) / IMAGE_SPREAD, high], 1)
        # functional.pixel_unshuffle, but for a batch of no image, which that one does not take.
        n, c, h, w = both.shape
        cells = both.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
        blocks = cells.flatten(1, 3).contiguous(memory_format=torch.channels_last)
        maps = self.before(self.head(blocks))
        maps = self.after(maps + self.coarse(maps))
        correction = functional.pixel_shuffle(self.tail(maps), 2)
        return (images + GAIN * correction[..., :height, :width]).clamp(0, 255)
