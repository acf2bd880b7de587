"""A residual PRN made of convolutions alone, for guards that have to be fast."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.rectifiers.prn_residual import (
    GAIN,
    HIGH_PASS_LIMIT,
    HIGH_PASS_SPREAD,
    IMAGE_SPREAD,
)
from uap_lightning.rectifiers.ranges import check_range

# Side in pixels of the mean that the high-pass lacks: a cell of 2 x 2 and its neighbours.
MEAN_SIDE = 6


class InvertedBlock(nn.Module):
    """Adds to its input what a 1 x 1, a depthwise 3 x 3 and a 1 x 1 convolution make of it.

    The inverted residual of MobileNet v2 (CVPR 2018). Three of these have two fifths of the
    arithmetic of two :class:`~uap_lightning.rectifiers.prn_residual.Block`.

    Args:
        width: maps of its input.
        expansion: how many times as many lie between its convolutions.
    """

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * width
        self.widen = nn.Conv2d(width, wide, 1)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.narrow = nn.Conv2d(wide, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """N x C x H x W to the same shape."""
        wide = functional.relu(self.depthwise(functional.relu(self.widen(maps))))
        added: Tensor = self.narrow(wide)
        return maps + added


class FastPRN(nn.Module):
    """Adds a correction to the image: :class:`ResidualPRN` without moving pixels about.

    Runtimes spend half of a small ResidualPRN's time on its 7 x 7 mean and on pixel-unshuffle. Here
    one fixed convolution with stride 2 gives the input: of each cell of 2 x 2 pixels, the pixels
    minus the mean of the 6 x 6 ones around it, and this mean. A convolution to ``width`` maps,
    inverted residual blocks on ``coarse`` maps at half that resolution, convolution back,
    pixel-shuffle. The last convolution starts at zero, so that training starts from the identity.
    The rectified image is clamped to 0-255. Sides that 4 does not divide are padded and cropped.

    Args:
        width: feature maps at half resolution, 1-128.
        coarse: feature maps at a quarter of it, 1-256.
        blocks: inverted residual blocks there, 0-20.
        expansion: how many times ``coarse`` maps lie within them, 1-8.

    Raises:
        UapError: one of them is out of its range.
    """

    residual = True  # predicts what to add to the image
    cells: Tensor
    offset: Tensor

    def __init__(
        self, width: int = 16, coarse: int = 32, blocks: int = 3, expansion: int = 2
    ) -> None:
        super().__init__()
        check_range("width", width, 1, 128)
        check_range("coarse", coarse, 1, 256)
        check_range("blocks", blocks, 0, 20)
        check_range("expansion", expansion, 1, 8)
        cells, offset = _cell_weights()
        self.register_buffer("cells", cells, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.head = nn.Conv2d(len(cells), width, 3, padding=1)
        self.down = nn.Conv2d(width, coarse, 2, stride=2)
        self.blocks = nn.Sequential(*(InvertedBlock(coarse, expansion) for _ in range(blocks)))
        self.up = nn.ConvTranspose2d(coarse, width, 2, stride=2)
        self.tail = nn.Conv2d(width, 12, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Rectified images of images: float N x 3 x H x W, 0-255, to the same shape."""
        height, width = images.shape[-2:]
        padded = functional.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        # Of the mean, which is scaled to +-2, the limit cuts nothing.
        cells = self._cells(padded).clamp(-HIGH_PASS_LIMIT, HIGH_PASS_LIMIT)
        maps = functional.relu(self.head(cells))
        coarse = self.blocks(functional.relu(self.down(maps)))
        maps = functional.relu(maps + self.up(coarse))
        correction = functional.pixel_shuffle(self.tail(maps), 2)
        return (images + GAIN * correction[..., :height, :width]).clamp(0, 255)

    def _cells(self, padded: Tensor) -> Tensor:
        """High-pass and mean of each cell: N x 15 x H/2 x W/2, always in float32."""
        device = padded.device.type
        if torch.is_autocast_enabled(device):  # pixel values in bf16 lose what is faint
            with torch.autocast(device, enabled=False):
                return self._cells(padded.float())
        wide = functional.pad(padded, (2, 2, 2, 2), mode="reflect")
        return functional.conv2d(wide, self.cells, self.offset, stride=2)


def _cell_weights() -> tuple[Tensor, Tensor]:
    """Weights (15 x 3 x 6 x 6) and biases of the first convolution.

    The twelve maps of the high-pass are in the order of pixel-unshuffle, then come the means of
    the three colours.
    """
    mean = torch.zeros(3, 3, MEAN_SIDE, MEAN_SIDE)
    high = torch.zeros(3, 4, 3, MEAN_SIDE, MEAN_SIDE)
    for colour in range(3):
        mean[colour, colour] = 1 / MEAN_SIDE**2
        for place in range(4):
            high[colour, place, colour, 2 + place // 2, 2 + place % 2] = 1
    high -= mean[:, None]
    weights = torch.cat([high.flatten(0, 1) / HIGH_PASS_SPREAD, mean / IMAGE_SPREAD])
    biases = torch.cat([torch.zeros(12), torch.full((3,), -127.5 / IMAGE_SPREAD)])
    return weights, biases
