"""Procedural perturbations: patterns that no network was asked about.

A rectifier that has only seen what a few networks are fooled by learns those patterns. These
vary what crafted perturbations have in common, so that it learns what photographs look like:
how energy is spread over frequencies and directions, how colours go together, how many values
lie at the bound.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.fft import irfft2, rfft2

KINDS = ("power_law", "ring", "gratings", "sparse_gabor", "signs")
_BOUND = 10.0
# Standard deviations at which a squashed pattern is cut: below 1 most values lie at the bound.
_LEAST, _MOST = 0.1, 3.0


def procedural(count: int, size: int, seed: int) -> Tensor:
    """Random patterns of every kind in turn, count x 3 x size x size, largest value 10.

    ``power_law``     noise whose amplitude falls or rises with a power of the frequency
    ``ring``          noise of one band of frequencies
    ``gratings``      one to eight plane waves
    ``sparse_gabor``  one wavelet at random places (Co et al., CCS 2019)
    ``signs``         squares of 1 to 8 pixels, each of one of two values

    Each has its own mixture of colours, from grey to three independent channels, and is squashed:
    a cut at few standard deviations gives most pixels the largest value, as sign steps do.

    Args:
        count: how many.
        size: side in pixels.
        seed: of all draws.
    """
    generator = torch.Generator().manual_seed(seed)
    makers: dict[str, Callable[[int, torch.Generator], Tensor]] = {
        "power_law": _power_law,
        "ring": _ring,
        "gratings": _gratings,
        "sparse_gabor": _sparse_gabor,
        "signs": _signs,
    }
    made = [
        _finish(makers[KINDS[n % len(KINDS)]](size, generator), generator) for n in range(count)
    ]
    return torch.stack(made) if made else torch.empty(0, 3, size, size)


def natural_noise(size: int, generator: torch.Generator) -> Tensor:
    """Noise with the spectrum of photographs, 3 x size x size, of deviation 1 in each channel.

    Its amplitude falls with the frequency, as that of natural images does (Field, JOSA A 1987).
    """
    noise = _filtered(_noise(size, generator), _frequencies(size).clamp_min(1 / size).pow(-1.0))
    scaled: Tensor = noise / noise.flatten(1).std(dim=1).clamp_min(1e-12)[:, None, None]
    return scaled


def _finish(pattern: Tensor, generator: torch.Generator) -> Tensor:
    """Mix the colours, squash, and scale to the bound."""
    independent = _uniform(0.0, 1.0, generator)
    mixing = torch.randn(3, 3, generator=generator) * independent
    grey = torch.randn(3, 1, generator=generator).expand(3, 3) / 3
    mixed = torch.einsum("oc,chw->ohw", mixing + (1 - independent) * grey, pattern)
    cut = _LEAST * (_MOST / _LEAST) ** _uniform(0.0, 1.0, generator)
    deviation = mixed.flatten(1).std(dim=1).mean().clamp_min(1e-12)
    squashed = (mixed / (cut * deviation)).clamp(-1, 1)
    finished: Tensor = _BOUND * squashed / squashed.abs().max().clamp_min(1e-12)
    return finished


def _filtered(pattern: Tensor, envelope: Tensor) -> Tensor:
    """A pattern, C x H x W, whose spectrum is multiplied by an envelope of ``rfft2``."""
    filtered: Tensor = irfft2(rfft2(pattern) * envelope, s=pattern.shape[-2:])
    return filtered


def _noise(size: int, generator: torch.Generator) -> Tensor:
    return torch.randn(3, size, size, generator=generator)


def _frequencies(size: int) -> Tensor:
    """Cycles per pixel of each coefficient of ``rfft2``."""
    down, right = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)
    return torch.hypot(down, right[None])


def _power_law(size: int, generator: torch.Generator) -> Tensor:
    power = _uniform(-1.5, 1.5, generator)
    return _filtered(_noise(size, generator), _frequencies(size).clamp_min(1 / size).pow(power))


def _ring(size: int, generator: torch.Generator) -> Tensor:
    centre, width = _uniform(0.03, 0.5, generator), _uniform(0.01, 0.15, generator)
    envelope = torch.exp(-0.5 * ((_frequencies(size) - centre) / width).square())
    return _filtered(_noise(size, generator), envelope)


def _gratings(size: int, generator: torch.Generator) -> Tensor:
    waves = int(torch.randint(1, 9, (), generator=generator))
    pattern = torch.zeros(3, size, size)
    for _ in range(waves):
        along, frequency = _along(size, generator), _uniform(0.03, 0.5, generator)
        phase = 2 * math.pi * torch.rand(3, 1, 1, generator=generator)
        pattern += torch.sin(2 * math.pi * frequency * along + phase)
    return pattern


def _sparse_gabor(size: int, generator: torch.Generator) -> Tensor:
    along, frequency = _along(size, generator), _uniform(0.05, 0.4, generator)
    deviation, density = _uniform(1.5, 8.0, generator), _uniform(0.001, 0.05, generator)
    places = torch.arange(size, dtype=torch.float32) - size // 2
    window = torch.exp(-(places[:, None].square() + places.square()) / (2 * deviation**2))
    wavelet = window * torch.cos(2 * math.pi * frequency * along)
    impulses = _noise(size, generator) * (torch.rand(size, size, generator=generator) < density)
    return _filtered(impulses, rfft2(wavelet))


def _along(size: int, generator: torch.Generator) -> Tensor:
    """Where each pixel lies along a random direction, counted from the middle."""
    angle = _uniform(0, math.pi, generator)
    places = torch.arange(size, dtype=torch.float32) - size // 2
    return math.cos(angle) * places[:, None] + math.sin(angle) * places


def _signs(size: int, generator: torch.Generator) -> Tensor:
    side = 2 ** int(torch.randint(0, 4, (), generator=generator))
    cells = -(-size // side)
    drawn = torch.randint(0, 2, (3, cells, cells), generator=generator) * 2.0 - 1
    return drawn.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :size, :size]


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
