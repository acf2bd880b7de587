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

    Each copy is scaled by bicubic interpolation. A larger one is cut at a random place, a smaller
    one is repeated at its edges. It gets back the standard deviation that interpolation took
    and is cut at the largest value of the original.

    Args:
        perturbations: K x 3 x S x S, pixel units.
        copies: how many of each.
        seed: of the scales and places.
    """
    generator = torch.Generator().manual_seed(seed)
    side = perturbations.shape[-1]
    made = []
    for rho in perturbations.repeat(copies, 1, 1, 1):
        share, down, right = torch.rand(3, generator=generator).tolist()
        scaled_side = max(1, round(side * FINEST * (COARSEST / FINEST) ** share))
        scaled = functional.interpolate(
            rho[None], size=(scaled_side, scaled_side), mode="bicubic", antialias=True
        )[0]
        spare = max(scaled_side - side, 0) + 1
        rows = (torch.arange(side) + int(down * spare)) % scaled_side
        columns = (torch.arange(side) + int(right * spare)) % scaled_side
        cut = scaled[:, rows][:, :, columns]
        largest = rho.abs().max()
        cut = cut * (rho.std() / cut.std().clamp_min(1e-12))
        made.append(cut.clamp(-largest, largest))
    return torch.stack(made) if made else perturbations[:0]


def tiled(perturbations: Tensor, side: int) -> Tensor:
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
