"""The Perturbation Rectifying Network of the paper (section 4.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.rectifiers.ranges import check_range


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, add the input, ReLU.

    The paper says "two convolution layers with ReLU activations"; where the second ReLU sits is
    the authors' code's choice, after the addition.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """N x C x H x W to the same shape."""
        return functional.relu(maps + self.second(functional.relu(self.first(maps))))


class PRN(nn.Module):
    """Convolution to 64 maps, 5 residual blocks, convolutions to 16 maps and to 3.

    As printed there is no identity path: the output of the last convolution is the rectified image,
    output * output_scale + mean, and it is not clamped. With ``skip`` it is added to the image
    instead, and the last convolution starts at zero, so that training starts from the image as it
    is. What else the paper leaves open is set by arguments: the input is (x - mean) / scale.

    Args:
        width: feature maps of the body, 1-256; the paper's is 64.
        blocks: residual blocks, 0-20; the paper's is 5.
        tail_width: maps before the last convolution, 1-256; the paper's is 16.
        tail_kernel: side of the last two convolutions: 3 in the paper, 1 in the authors' code.
        mean: subtracted from the pixels, one number a channel.
        scale: divides the pixels.
        output_scale: multiplies the last convolution's output; the authors' code has 1, so
            that their network has to learn the scale of the pixels.
        skip: add the output to the image, which the paper does not have.

    Raises:
        UapError: one of them is out of its range.
    """

    mean: Tensor

    def __init__(
        self,
        width: int = 64,
        blocks: int = 5,
        tail_width: int = 16,
        tail_kernel: int = 3,
        mean: Sequence[float] = (127.5, 127.5, 127.5),
        scale: float = 127.5,
        output_scale: float = 127.5,
        skip: bool = False,
    ) -> None:
        super().__init__()
        check_range("width", width, 1, 256)
        check_range("blocks", blocks, 0, 20)
        check_range("tail_width", tail_width, 1, 256)
        check_range("tail_kernel", tail_kernel, 1, 15)
        self.register_buffer("mean", torch.tensor([float(m) for m in mean]).view(3, 1, 1))
        self.scale = scale
        self.output_scale = output_scale
        self.skip = skip
        self.residual = skip
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        last = nn.Conv2d(tail_width, 3, tail_kernel, padding=tail_kernel // 2)
        self.tail = nn.Sequential(
            nn.Conv2d(width, tail_width, tail_kernel, padding=tail_kernel // 2), last
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        if skip:
            nn.init.zeros_(last.weight)
        # Half precision is many times slower in the other layout on processors with AMX.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Rectified images of images: float N x 3 x H x W, 0-255, to the same shape."""
        pixels = images.contiguous(memory_format=torch.channels_last)
        maps = self.body(self.head((pixels - self.mean) / self.scale))
        output: Tensor = self.tail(maps) * self.output_scale
        return output + (images if self.skip else self.mean)
