"""A rectifier that learns one small filter for all three channels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.rectifiers import RECTIFIERS


# The name that a defence folder calls it by.
@RECTIFIERS.register("learned_blur")
class LearnedBlur(nn.Module):
    """One ``side`` x ``side`` filter, the same for each channel; it starts as the identity.

    Args:
        side: of the filter in pixels, odd.
    """

    def __init__(self, side: int = 5) -> None:
        super().__init__()
        weight = torch.zeros(side, side)
        weight[side // 2, side // 2] = 1.0
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        """Float N x 3 x H x W, RGB, 0-255, to the same shape."""
        margin = len(self.weight) // 2
        padded = functional.pad(images, [margin] * 4, mode="reflect")
        return functional.conv2d(padded, self.weight.expand(3, 1, -1, -1), groups=3)
