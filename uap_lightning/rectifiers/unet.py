"""The denoising U-Net of the high-level representation guided denoiser."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.rectifiers.ranges import check_range

# Maps of each scale in widths, the finest first; each scale halves the side of the one before.
SCALES = (1, 2, 4, 4, 4)
_DIVISOR = 2 ** (len(SCALES) - 1)
_SPREAD = 64.0


class Layers(nn.Sequential):
    """Convolutions of 3 x 3, each with batch norm and ReLU."""

    def __init__(self, taken: int, width: int, count: int, stride: int = 1) -> None:
        layers: list[nn.Module] = []
        for number in range(count):
            first = number == 0
            layers += [
                nn.Conv2d(
                    taken if first else width,
                    width,
                    3,
                    stride=stride if first else 1,
                    padding=1,
                    bias=False,
                ),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """Subtracts what it takes for noise: the DUNET of Liao et al. (CVPR 2018, section 4.2).

    Five scales of convolutions with batch norm and ReLU, two at the finest and three at the
    others, go down; up again, each scale is given the coarser one, enlarged bilinearly, beside
    its own maps of the way down. A last convolution of 1 x 1 makes the noise. It starts at zero,
    so that training starts from the identity, and the result is clamped to 0-255. Images are
    padded so that 16 divides their sides, and cropped again.

    Args:
        width: maps of the finest scale, 1-128; theirs is 64.

    Raises:
        UapError: it is out of its range.
    """

    residual = True  # predicts what to subtract from the image

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        check_range("width", width, 1, 128)
        widths = [scale * width for scale in SCALES]
        self.down = nn.ModuleList([Layers(3, widths[0], 2)])
        self.up = nn.ModuleList()
        for finer, coarser in pairwise(widths):
            self.down.append(Layers(finer, coarser, 3, stride=2))
            self.up.append(Layers(finer + coarser, finer, 2 if finer == widths[0] else 3))
        self.tail = nn.Conv2d(widths[0], 3, 1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Rectified images of images: float N x 3 x H x W, 0-255, to the same shape."""
        height, width = images.shape[-2:]
        padding = (0, -width % _DIVISOR, 0, -height % _DIVISOR)
        maps = functional.pad((images - 127.5) / _SPREAD, padding, mode="replicate")
        passed = []
        for layers in self.down:
            maps = layers(maps)
            passed.append(maps)
        for layers, finer in zip(reversed(self.up), reversed(passed[:-1]), strict=True):
            enlarged = functional.interpolate(maps, scale_factor=2.0, mode="bilinear")
            maps = layers(torch.cat([enlarged, finer], 1))
        noise = _SPREAD * self.tail(maps)[..., :height, :width]
        rectified: Tensor = (images - noise).clamp(0, 255)
        return rectified
