"""The ball a perturbation lives in."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError

_PIXELS = (-3, -2, -1)


@dataclass(frozen=True)
class Ball:
    """The l_p ball of radius ``eps`` (xi in the papers), in pixel units 0-255.

    Every method takes tensors of shape (..., 3, H, W); each 3 x H x W block is one vector.

    Attributes:
        p: 2 or infinity.
        eps: radius of the ball, above zero.

    Raises:
        UapError: for another ``p`` or a radius that is not positive and finite.
    """

    p: float
    eps: float

    def __post_init__(self) -> None:
        if self.p not in (2, math.inf):
            raise UapError(f"norm.p is {self.p}: expected 2 or inf; choose norm=l2 or norm=linf.")
        if not (0 < self.eps < math.inf):
            raise UapError(
                f"norm.eps is {self.eps}: expected a radius above 0 in pixel units (0-255), "
                "such as 10 for linf or 2000 for l2 at 224 x 224."
            )

    def size(self, vector: Tensor) -> Tensor:
        """The norm of each vector: (..., 3, H, W) to (...)."""
        size: Tensor = torch.linalg.vector_norm(vector, ord=self.p, dim=_PIXELS)
        return size

    def normalise(self, vector: Tensor) -> Tensor:
        """Each vector divided by its norm; a zero vector stays zero."""
        size = self.size(vector)[..., None, None, None]
        return torch.where(size > 0, vector / size.clamp_min(torch.finfo(size.dtype).tiny), vector)

    def project(self, vector: Tensor) -> Tensor:
        """The nearest point of the ball in the l_2 sense: a clamp for l_inf, a scaling for l_2."""
        if self.p == 2:
            size = self.size(vector)[..., None, None, None]
            return vector * (self.eps / size.clamp_min(self.eps))
        return vector.clamp(-self.eps, self.eps)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of norm 1 along which a linear function with ``gradient`` rises most."""
        return self.normalise(gradient) if self.p == 2 else gradient.sign()


def scaled_ball(p: float, eps: float, reference_size: int | None, size: int) -> Ball:
    """The ball for images of side ``size``.

    An l_2 radius belongs to a number of pixels: eps = 2000 is stated for 224 x 224 x 3. It
    scales with the square root of the dimension, that is with the side of a square image.

    Args:
        p: 2 or infinity.
        eps: radius at the reference size.
        reference_size: side that ``eps`` is stated for; None when it holds at every size.
        size: side of the images at hand, in pixels.

    Raises:
        UapError: the radius or the reference size is not positive, or the ball takes in every
            image there is.
    """
    if reference_size is not None and reference_size < 1:
        raise UapError(
            f"norm.reference_size is {reference_size}: expected the side that norm.eps is stated "
            "for, in pixels, or null where it holds at every size."
        )
    norm = Ball(float(p), float(eps) * (size / reference_size if reference_size else 1.0))
    largest = 255.0 if norm.p != 2 else 255.0 * math.sqrt(3) * size
    if norm.eps >= largest:
        raise UapError(
            f"norm.eps is {eps}, {norm.eps:.6g} at {size} x {size}: expected a radius below "
            f"{largest:.6g}, the distance from black to white, in pixel units (0-255)."
        )
    return norm
