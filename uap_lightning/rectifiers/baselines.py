"""Image filters as rectifiers: baselines with nothing to train, on the interface of the PRN.

Each maps float N x 3 x H x W, 0-255, to the same shape, and is deterministic on every device.
"""

from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.core.dct import dct_matrix
from uap_lightning.core.errors import UapError
from uap_lightning.rectifiers.ranges import check_range

# Step of Chambolle's iteration: it converges up to 1/4.
TAU = 0.25
# A squared difference below which the total variation counts as flat.
_FLAT = 1e-12


class Identity(nn.Identity):
    """Images as they are. A class of this package, which a defence folder may name."""


class JPEG(nn.Module):
    """JPEG compression by Pillow, on the CPU, with its usual 4:2:0 chroma.

    Args:
        quality: 1-100.

    Raises:
        UapError: ``quality`` is out of its range.
    """

    def __init__(self, quality: int = 75) -> None:
        super().__init__()
        check_range("quality", quality, 1, 100)
        self.quality = quality

    def forward(self, images: Tensor) -> Tensor:
        """Images rounded to whole pixels, encoded and decoded."""
        pixels = images.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        decoded = np.stack([self._compress(image) for image in pixels])
        return torch.from_numpy(decoded).permute(0, 3, 1, 2).to(images)

    def _compress(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file))


class DCTCompression(nn.Module):
    """Keeps the largest coefficients of each channel's DCT and sets the others to zero.

    The DCT compression that the paper tries in its supplementary material: the two-dimensional
    orthonormal DCT-II of the whole image.

    Args:
        compression: share of the coefficients that is set to zero, from 0 to below 1.

    Raises:
        UapError: ``compression`` is out of its range.
    """

    def __init__(self, compression: float = 0.9) -> None:
        super().__init__()
        if not 0 <= compression < 1:
            raise UapError(
                f"rectifier.model.compression is {compression}: expected a share of at least 0 "
                "and below 1, such as 0.9."
            )
        self.compression = compression

    def forward(self, images: Tensor) -> Tensor:
        """Images of the coefficients that are kept, clamped to 0-255."""
        # Double: a GPU multiplies float32 matrices with ten bits of mantissa.
        rows = dct_matrix(images.shape[-2]).to(images.device).double()
        columns = dct_matrix(images.shape[-1]).to(images.device).double()
        coefficients = rows @ images.double() @ columns.T
        magnitudes = coefficients.abs().flatten(2)
        kept = magnitudes.shape[-1] - round(self.compression * magnitudes.shape[-1])
        least = magnitudes.topk(max(kept, 1)).values[..., -1, None, None]
        coefficients = torch.where(coefficients.abs() >= least, coefficients, 0.0)
        return (rows.T @ coefficients @ columns).clamp(0, 255).to(images.dtype)


class BitDepth(nn.Module):
    """Reduces each channel to evenly spaced levels from 0 to 255.

    Args:
        bits: 1-8; there are 2 to the power of ``bits`` levels.

    Raises:
        UapError: ``bits`` is out of its range.
    """

    def __init__(self, bits: int = 3) -> None:
        super().__init__()
        check_range("bits", bits, 1, 8)
        self.step: float = 255 / (2**bits - 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images with each value at its nearest level."""
        return (images.clamp(0, 255) / self.step).round() * self.step


class Gaussian(nn.Module):
    """Gaussian blur, with the image mirrored at its border.

    Args:
        sigma: in pixels, 0.01-1000.
        radius: of the kernel in pixels, in each direction, 1-100.

    Raises:
        UapError: one of them is out of its range.
    """

    def __init__(self, sigma: float = 1.0, radius: int = 3) -> None:
        super().__init__()
        check_range("sigma", sigma, 0.01, 1000.0)
        check_range("radius", radius, 1, 100)
        self.sigma = sigma
        self.radius = radius

    def forward(self, images: Tensor) -> Tensor:
        """Blurred images."""
        # Seconds to import, and only needed here: a guard has another rectifier.
        from torchvision.transforms.functional import gaussian_blur

        return gaussian_blur(images, 2 * self.radius + 1, self.sigma)  # type: ignore[no-any-return]


class Median(nn.Module):
    """Median of a square window in each channel, with the image mirrored at its border.

    Args:
        radius: of the window in pixels, 1-5; 1 is 3 x 3.

    Raises:
        UapError: ``radius`` is out of its range.
    """

    def __init__(self, radius: int = 1) -> None:
        super().__init__()
        check_range("radius", radius, 1, 5)
        self.radius = radius

    def forward(self, images: Tensor) -> Tensor:
        """Filtered images."""
        side = 2 * self.radius + 1
        padded = functional.pad(images, (self.radius,) * 4, mode="reflect")
        windows = padded.unfold(2, side, 1).unfold(3, side, 1).flatten(-2)
        # On a GPU torch.median is not deterministic, and kornia's median_blur uses it.
        return windows.sort(-1).values[..., side**2 // 2]


class TotalVariation(nn.Module):
    """Total-variation denoising of each channel by Chambolle's projection (JMIV 2004, eq. 9).

    Minimises ||u - f||^2 / 2 + weight * TV(u) over u, with the isotropic total variation.

    Args:
        weight: of the total variation, in pixel units, 0.01-10,000; the larger, the smoother.
        iterations: of the projection, 1-1000.

    Raises:
        UapError: one of them is out of its range.
    """

    def __init__(self, weight: float = 10.0, iterations: int = 50) -> None:
        super().__init__()
        check_range("weight", weight, 0.01, 10_000.0)
        check_range("iterations", iterations, 1, 1000)
        self.weight = weight
        self.iterations = iterations

    def forward(self, images: Tensor) -> Tensor:
        """Denoised images."""
        dual = torch.zeros(2, *images.shape, dtype=images.dtype, device=images.device)
        for _ in range(self.iterations):
            ascent = TAU * gradient(divergence(dual) - images / self.weight)
            # Where nothing rises, the root has no gradient to give.
            steepness = ascent.square().sum(0).clamp_min(_FLAT).sqrt()
            dual = (dual + ascent) / (1 + steepness)
        return images - self.weight * divergence(dual)


def gradient(images: Tensor) -> Tensor:
    """Forward differences down and to the right, zero at the border: ... to 2 x ..."""
    down = functional.pad(images.diff(dim=-2), (0, 0, 0, 1))
    right = functional.pad(images.diff(dim=-1), (0, 1))
    return torch.stack([down, right])


def divergence(field: Tensor) -> Tensor:
    """Minus the adjoint of :func:`gradient`: 2 x ... to ... ."""
    down = functional.pad(field[0, ..., :-1, :], (0, 0, 1, 1)).diff(dim=-2)
    right = functional.pad(field[1, ..., :-1], (1, 1)).diff(dim=-1)
    return down + right
