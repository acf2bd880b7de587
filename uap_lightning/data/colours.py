"""Photographs in other colours, so that what learns from few meets more kinds of them."""

from torch import Tensor
from torchvision.transforms.v2 import functional

# Factors of brightness, contrast and saturation, and the turn of the hue as a share of a circle.
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = (0.6, 1.4), (0.5, 1.5), (0.0, 2.0), (-0.1, 0.1)
# Draws that an image takes: whether it changes, and those four.
DRAWS = 5


def recoloured(images: Tensor, draws: Tensor, share: float) -> Tensor:
    """Some of the images with another brightness, contrast, saturation and hue.

    A rectifier that has seen few photographs of strong colours takes their colours for a
    perturbation.

    Args:
        images: float N x 3 x H x W, 0-255, RGB.
        draws: even draws from 0 to below 1 that decide all this, N x ``DRAWS``, on the processor.
        share: probability that an image is changed.

    Returns:
        images of whole pixel values, 0-255; those that are not changed as they were.
    """
    chosen = (draws[:, 0] < share).nonzero()[:, 0].tolist()
    changed = images.clone() if chosen else images
    for number in chosen:
        brightness, contrast, saturation, hue = (
            low + (high - low) * float(draw)
            for draw, (low, high) in zip(
                draws[number, 1:], (_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE), strict=True
            )
        )
        image = functional.adjust_brightness(images[number] / 255, brightness)
        image = functional.adjust_contrast(image, contrast)
        image = functional.adjust_hue(functional.adjust_saturation(image, saturation), hue)
        changed[number] = (image.clamp(0, 1) * 255).round()
    return changed
