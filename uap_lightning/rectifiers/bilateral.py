"""The bilateral filter as a rectifier; it needs kornia (the extra ``baselines``)."""

from torch import Tensor, nn

from uap_lightning.core.errors import UapError

try:
    from kornia.filters import bilateral_blur
except ImportError as error:
    raise ImportError(
        "the bilateral filter needs kornia: pip install 'uap-lightning[baselines]'"
    ) from error


class Bilateral(nn.Module):
    """Weighs each neighbour by its distance in space and in colour, mirrored at the border.

    Args:
        sigma_color: in pixel units, of the Euclidean distance over the three channels.
        sigma_space: in pixels.
        radius: of the window in pixels, in each direction.

    Raises:
        UapError: one of them is not positive.
    """

    def __init__(
        self, sigma_color: float = 40.0, sigma_space: float = 1.5, radius: int = 3
    ) -> None:
        super().__init__()
        if min(sigma_color, sigma_space) <= 0 or radius < 1:
            raise UapError(
                f"rectifier.model has sigma_color {sigma_color}, sigma_space {sigma_space} and "
                f"radius {radius}: expected numbers above 0, such as 40.0, 1.5 and 3."
            )
        self.sigma_color = sigma_color
        self.sigma_space = sigma_space
        self.radius = radius

    def forward(self, images: Tensor) -> Tensor:
        """Filtered images: float N x 3 x H x W, 0-255, to the same shape."""
        return bilateral_blur(
            images,
            2 * self.radius + 1,
            self.sigma_color,
            (self.sigma_space, self.sigma_space),
            color_distance_type="l2",
        )
