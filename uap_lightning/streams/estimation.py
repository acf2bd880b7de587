"""From images that carry one perturbation to the perturbation, with nothing trained."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from uap_lightning.core.errors import UapError
from uap_lightning.streams.whitening import opponent

# Each derivative is the difference to the neighbour at these rows and columns.
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
# Rounding to whole numbers and what a camera adds, pixel units.
_NOISE = 0.7
# Standard deviation of a perturbation's values before anything is known, pixel units: of what is
# fine, until an estimate says that it is more; and of what is coarser than about 33 pixels, which
# hardly fools a classifier and is where few photographs differ by chance.
_FINE, _COARSE = 7.0, 2.5
_COARSER_THAN = 0.03  # cycles a pixel
# More rounds find ever smaller variances where images are few, and trust them.
_ROUNDS = 4
_STEPS = 25


@torch.no_grad()
def estimate(images: Tensor) -> Tensor:
    """The perturbation that different images share.

    Derivatives of a photograph are small nearly everywhere, and large at edges. So each derivative
    of the perturbation is taken from the images in which its neighbourhood is quiet: in opponent
    colours c, over the four first derivatives D_k,

        minimise over rho  sum_i,k,c,p  w_ikc(p) (D_k (y_i - rho))_c(p)^2 + |rho / prior|^2
        with  w_ikc(p) = 1 / (variance of D_k (y_i - rho)_c around p + noise^2),

    the weights and rho in turn, as for a Gaussian scale mixture (Portilla et al., 2003). The prior
    has a value for each frequency, and grows with rho. The normal equations are solved by
    conjugate gradients, preconditioned in the frequency domain. Derivatives that touch 0 or 255
    are left out: what was cut off there is not known.

    Args:
        images: N x 3 x H x W, 0-255, N at least 2, of different photographs.

    Returns:
        3 x H x W, pixel units.

    Raises:
        UapError: there are fewer than 2 images.
    """
    count, _, height, width = images.shape
    if count < 2:
        raise UapError(f"there is {count} image to estimate from: expected at least 2.")
    pixels = images.float()
    rotation = opponent().to(pixels.device)
    colours = torch.einsum("dc,nchw->ndhw", rotation, pixels)
    inside = ((pixels > 0) & (pixels < 255)).all(dim=1, keepdim=True).float()
    valid = [
        inside * _shifted(inside, k) * _edge(height, width, k).to(pixels.device)
        for k in range(len(_NEIGHBOURS))
    ]
    seen = [_window(known).clamp_min(1e-3) for known in valid]
    rho = torch.zeros_like(colours[0])
    for round_ in range(_ROUNDS):
        # Where rho was fitted to these very images, they seem quieter than they are.
        freedom = 1.0 if round_ == 0 else count / (count - 1)
        weights, right = [], torch.zeros_like(rho)
        for k in range(len(_NEIGHBOURS)):
            explained = _derivative(rho, k)
            total, weighted = torch.zeros_like(rho), torch.zeros_like(rho)
            # One image at a time stays in the processor's cache.
            for image, known, share in zip(colours, valid[k], seen[k], strict=True):
                derivative = _derivative(image, k)
                square = (derivative - explained).square_()
                variance = _window(square.mul_(known)).mul_(freedom).div_(share)
                weight = known / variance.add_(_NOISE**2)
                total += weight
                weighted += weight.mul_(derivative)
            weights.append(total)
            right = right + _transposed(weighted, k)
        fine = max(_FINE, float(rho.square().mean().sqrt()))
        rho = _solve(weights, right, rho, fine)
    return torch.einsum("dc,dhw->chw", rotation, rho)


def _shifted(maps: Tensor, k: int) -> Tensor:
    down, along = _NEIGHBOURS[k]
    return maps.roll((-down, -along), (-2, -1))


def _derivative(maps: Tensor, k: int) -> Tensor:
    return _shifted(maps, k) - maps


def _transposed(maps: Tensor, k: int) -> Tensor:
    down, along = _NEIGHBOURS[k]
    return maps.roll((down, along), (-2, -1)) - maps


def _edge(height: int, width: int, k: int) -> Tensor:
    """1 where the neighbour is in the image, 0 where it would be at the other side."""
    down, along = _NEIGHBOURS[k]
    inside = torch.zeros(height, width)
    inside[: height - down, max(0, -along) : width - max(0, along)] = 1
    return inside


def _window(maps: Tensor) -> Tensor:
    """The mean over 3 x 3 pixels, by sums of shifted copies: average pooling takes far longer."""
    maps = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    for dim in (-1, -2):
        length = maps.shape[dim] - 2
        two = maps.narrow(dim, 0, length) + maps.narrow(dim, 1, length)
        maps = two + maps.narrow(dim, 2, length)
    return maps / 9


def _solve(weights: list[Tensor], right: Tensor, start: Tensor, fine: float) -> Tensor:
    """Solve (sum_k D_k' W_k D_k + F^-1 prior^-2 F) rho = right by conjugate gradients."""
    height, width = right.shape[-2:]
    rows = 2 * math.pi * torch.fft.fftfreq(height, device=right.device)[:, None]
    columns = 2 * math.pi * torch.fft.rfftfreq(width, device=right.device)[None]
    frequency = (rows.square() + columns.square()).sqrt() / (2 * math.pi)
    prior = 1 / fine**2 + 1 / _COARSE**2 / (1 + (frequency / _COARSER_THAN) ** 4)
    power = prior.expand(3, -1, -1)
    for weight, (down, along) in zip(weights, _NEIGHBOURS, strict=True):
        square = 2 - 2 * torch.cos(rows * down + columns * along)
        power = power + weight.mean(dim=(-2, -1))[:, None, None] * square

    def apply(maps: Tensor) -> Tensor:
        parts = (_transposed(w * _derivative(maps, k), k) for k, w in enumerate(weights))
        unlikely = torch.fft.irfft2(torch.fft.rfft2(maps) * prior, s=(height, width))
        total: Tensor = sum(parts, start=unlikely)
        return total

    def precondition(maps: Tensor) -> Tensor:
        divided: Tensor = torch.fft.irfft2(torch.fft.rfft2(maps) / power, s=(height, width))
        return divided

    rho, left = start, right - apply(start)
    step = precondition(left)
    direction, size = step, (left * step).sum()
    for _ in range(_STEPS):
        if float(size) <= 1e-12:
            break
        applied = apply(direction)
        length = size / (direction * applied).sum()
        rho, left = rho + length * direction, left - length * applied
        step = precondition(left)
        direction, size = step + (new := (left * step).sum()) / size * direction, new
    return rho
