"""The bilateral filter as a rectifier; it needs kornia (the extra ``baselines``)."""

import importlib.util

from torch import Tensor, nn

from uap_lightning.core.errors import UapError
from uap_lightning.rectifiers.ranges import check_range


class Bilateral(nn.Module):
    """Weighs each neighbour by its distance in space and in colour, mirrored at the border.

    Args:
        sigma_color: in pixel units, 0.01-1000, of the Euclidean distance over the three channels.
        sigma_space: in pixels, 0.01-1000.
        radius: of the window in pixels, in each direction, 1-5.

    Raises:
        UapError: one of them is out of its range, or kornia is not installed.
    """

    def __init__(
        self, sigma_color: float = 40.0, sigma_space: float = 1.5, radius: int = 3
    ) -> None:
        super().__init__()
        check_range("sigma_color", sigma_color, 0.01, 1000.0)
        check_range("sigma_space", sigma_space, 0.01, 1000.0)
        check_range("radius", radius, 1, 5)
        if importlib.util.find_spec("kornia") is None:
            raise UapError(
                "the bilateral filter needs kornia: pip install 'uap-lightning[baselines]'."
            )
        self.sigma_color = sigma_color
        self.sigma_space = sigma_space
        self.radius = radius

    def forward(self, images: Tensor) -> Tensor:
        """Filtered images: float N x 3 x H x W, 0-255, to the same shape."""
        # Seconds to import, and not always there.
        from kornia.filters import bilateral_blur

        return bilateral_blur(
            images,
            2 * self.radius + 1,
            self.sigma_color,
            (self.sigma_space, self.sigma_space),
            color_distance_type="l2",
        )
