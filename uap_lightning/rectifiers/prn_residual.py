"""A residual PRN at half resolution, for small collections and fast use."""

from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.rectifiers.prn import ResidualBlock


class ResidualPRN(nn.Module):
    """Adds a correction to the image, computed on 2 x 2 blocks of pixels.

    Pixel-unshuffle by 2, convolution to ``width`` maps, residual blocks, convolution back,
    pixel-shuffle. The last convolution starts at zero, so that training starts from the
    identity. The rectified image is clamped to 0-255. Odd sides are padded by one pixel.

    Args:
        width: feature maps.
        blocks: residual blocks.
    """

    def __init__(self, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        self.head = nn.Conv2d(12, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.tail = nn.Conv2d(width, 12, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Rectified images of images: float N x 3 x H x W, 0-255, to the same shape."""
        height, width = images.shape[-2:]
        padded = functional.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
        maps = functional.pixel_unshuffle((padded - 127.5) / 127.5, 2)
        maps = functional.relu(self.head(maps))
        correction = functional.pixel_shuffle(self.tail(self.body(maps)), 2)
        correction = correction[..., :height, :width]
        return (images + 127.5 * correction).clamp(0, 255)
