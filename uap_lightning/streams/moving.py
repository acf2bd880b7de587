"""Patterns that an attacker moves from image to image: shifted round the edges, or negated.

Neither changes the amplitudes of a spectrum. So two images with one pattern are found by their
amplitudes (:meth:`~uap_lightning.streams.whitening.Whitener.describe`), and brought into step by
the peak of their cross-correlation.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moves:
    """Where a pattern lies in each of N images: ``sign`` times the pattern, rolled by ``shift``.

    Attributes:
        shift: rows and columns, int64 N x 2.
        sign: 1 or -1, float N.
        score: of the image with the pattern laid so, N; see
            :func:`~uap_lightning.streams.matching.scores`.
    """

    shift: Tensor
    sign: Tensor
    score: Tensor


def moves_of(residuals: Tensor, templates: Tensor, size: int) -> Moves:
    """The shift and the sign at which each residual has most of its template.

    Args:
        residuals: N x d, with d = 3 x size x size.
        templates: of length 1, N x d or d for all.
        size: side of the images in pixels.
    """
    spectra = torch.fft.rfft2(residuals.view(-1, 3, size, size))
    of_template = torch.fft.rfft2(templates.view(-1, 3, size, size))
    product = (spectra * of_template.conj()).sum(dim=1)
    correlation = torch.fft.irfft2(product, s=(size, size)).flatten(1)
    place = correlation.abs().argmax(dim=1)
    peak = correlation.gather(1, place[:, None])[:, 0]
    shift = torch.stack([place // size, place % size], dim=1)
    sign = torch.where(peak < 0, -1.0, 1.0)
    return Moves(shift, sign, peak.abs() * math.sqrt(residuals.shape[1]))


def placed(patterns: Tensor, moves: Moves) -> Tensor:
    """Patterns as they lie in the images: N x 3 x H x W."""
    rows = zip(patterns, moves.shift.tolist(), moves.sign, strict=True)
    return torch.stack([sign * pattern.roll(shift, (-2, -1)) for pattern, shift, sign in rows])


def in_step(images: Tensor, moves: Moves) -> Tensor:
    """Images (uint8 N x 3 x H x W) rolled back, the negative ones negated: all have one pattern."""
    rows = zip(images, moves.shift.tolist(), moves.sign.tolist(), strict=True)
    return torch.stack(
        [
            (image if sign > 0 else 255 - image).roll((-shift[0], -shift[1]), (-2, -1))
            for image, shift, sign in rows
        ]
    )
