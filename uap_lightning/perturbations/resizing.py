"""Perturbations at other scales and sizes.

The grain of a crafted perturbation follows the strides and kernels of the network it was crafted
for. The same pattern, coarser or finer, is a stand-in for one of a network that is not at hand,
and for one that was made for another size of image.
"""

import torch
from torch import Tensor
from torch.nn import functional

# Sides of what a pattern becomes, relative to its own; drawn evenly on a scale of logarithms.
FINEST, COARSEST = 0.6, 2.2


def rescaled(perturbations: Tensor, copies: int, seed: int) -> Tensor:
    """Copies of perturbations at random scales, ``copies`` * K x 3 x S x S.

    Each copy is scaled by bicubic interpolation and gets back the mean square that this took. A
    larger one is then cut at a random place, and a smaller one is repeated side by side. Neither
    its largest value nor its l_2 norm exceeds those of the original.

    Args:
        perturbations: K x 3 x S x S, pixel units.
        copies: how many of each.
        seed: of the scales and places.
    """
    generator = torch.Generator().manual_seed(seed)
    made = [_rescaled(rho, generator) for rho in perturbations.repeat(copies, 1, 1, 1)]
    return torch.stack(made) if made else perturbations[:0]


def _rescaled(rho: Tensor, generator: torch.Generator) -> Tensor:
    """One of them."""
    share, down, right = torch.rand(3, generator=generator).tolist()
    own = rho.shape[-1]
    side = max(1, round(own * FINEST * (COARSEST / FINEST) ** share))
    scaled = functional.interpolate(rho[None], size=(side, side), mode="bicubic", antialias=True)[0]
    scaled = scaled * (rho.square().mean() / scaled.square().mean().clamp_min(1e-12)).sqrt()
    spare = max(side - own, 0) + 1
    rows = (torch.arange(own) + int(down * spare)) % side
    columns = (torch.arange(own) + int(right * spare)) % side
    largest = rho.abs().max()
    copy = scaled[:, rows][:, :, columns].clamp(-largest, largest)
    limited: Tensor = copy * (rho.norm() / copy.norm().clamp_min(1e-12)).clamp_max(1.0)
    return limited


def mirrored(perturbations: Tensor, side: int) -> Tensor:
    """Perturbations continued to a larger side by their mirror images, K x 3 x side x side.

    Their grain, their colours and their strength at a pixel stay as they are, which is what a
    rectifier knows them by; their l_2 norm grows.

    Args:
        perturbations: K x 3 x S x S.
        side: S or more.
    """
    own = perturbations.shape[-1]
    there_and_back = torch.cat([torch.arange(own), torch.arange(own).flip(0)])
    places = there_and_back[torch.arange(side) % (2 * own)]
    return perturbations[..., places[:, None], places]
