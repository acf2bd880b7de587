"""Procedural perturbations have the bound, the spectrum and the values that their kind says."""

import numpy as np
import pytest
import torch

from uap_lightning.perturbations import procedural as module
from uap_lightning.perturbations.procedural import KINDS, natural_noise, procedural

SIZE = 64


def of_kind(kind, count=20):
    made = procedural(count * len(KINDS), SIZE, seed=3)
    return made[KINDS.index(kind) :: len(KINDS)]


def test_they_keep_the_bound_repeat_under_their_seed_and_differ():
    made = procedural(30, SIZE, seed=1)
    assert made.shape == (30, 3, SIZE, SIZE)
    torch.testing.assert_close(made.abs().amax((1, 2, 3)), torch.full((30,), 10.0))
    assert torch.equal(procedural(30, SIZE, seed=1), made)
    # those that are there already stay when more are asked for
    assert torch.equal(procedural(35, SIZE, seed=1)[:30], made)
    units = torch.nn.functional.normalize(torch.cat([made, procedural(30, SIZE, 2)]).flatten(1))
    cosines = (units @ units.T).fill_diagonal_(0).abs()
    assert float(cosines.max()) < 0.9
    assert procedural(0, SIZE, 0).shape == (0, 3, SIZE, SIZE)


def test_some_are_at_the_bound_nearly_everywhere_and_some_nearly_nowhere():
    shares = (procedural(200, SIZE, seed=4).abs() > 9.99).float().mean((1, 2, 3))
    assert float(shares.min()) < 0.05
    assert float(shares.max()) > 0.95
    assert 0.3 < float(shares.median()) < 0.9


def test_signs_have_few_values_in_squares():
    for pattern in of_kind("signs"):
        assert all(len(channel.unique()) <= 8 for channel in pattern)
    runs = [
        (pattern[:, :, 1:] == pattern[:, :, :-1]).float().mean() for pattern in of_kind("signs")
    ]
    # squares of 8 share seven of eight neighbours at least, those of 1 half of them
    assert max(runs) > 0.85
    assert min(runs) < 0.8


def rings(pattern):
    """Energy by cycles per pixel, in 16 rings up to 0.5: by the full transform."""
    energy = torch.fft.fft2(pattern).abs().square().sum(0)
    grid = torch.fft.fftfreq(SIZE)
    radius = (grid[:, None] ** 2 + grid**2).sqrt()
    place = (radius * 32).long().clamp(0, 15)
    return torch.zeros(16).index_add(0, place.flatten(), energy.flatten()) / energy.sum()


def test_a_ring_is_a_band_and_bands_differ():
    generator = torch.Generator().manual_seed(0)
    found = [rings(module._ring(SIZE, generator)) for _ in range(30)]
    widest = [float(energy.topk(9).values.sum()) for energy in found]
    assert sum(share > 0.9 for share in widest) > 20
    assert len({int(energy.argmax()) for energy in found}) > 8


def test_power_laws_fall_and_rise():
    generator = torch.Generator().manual_seed(0)
    low = [float(rings(module._power_law(SIZE, generator))[:4].sum()) for _ in range(30)]
    # White noise has 5 % of its energy there.
    assert max(low) > 0.5
    assert min(low) < 0.02


@pytest.mark.parametrize("maker", [module._gratings, module._sparse_gabor])
def test_waves_have_few_frequencies(maker):
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        energy = torch.fft.fft2(maker(SIZE, generator)).abs().square().sum(0).flatten()
        most = energy.sort(descending=True).values
        assert float(most[: len(most) // 4].sum() / most.sum()) > 0.8


def test_natural_noise_has_the_spectrum_of_photographs():
    """The power that numpy finds falls with the square of the frequency; channels are unlike."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.stack([natural_noise(64, generator) for _ in range(20)])
    assert torch.allclose(noise.std((2, 3)), torch.ones(20, 3), atol=1e-4)
    power = np.square(np.abs(np.fft.fft2(noise.numpy()))).mean((0, 1))
    frequencies = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
    inside = (frequencies > 0.05) & (frequencies < 0.45)
    slope = np.polyfit(np.log(frequencies[inside]), np.log(power[inside]), 1)[0]
    assert -2.15 < slope < -1.85
    channels = torch.corrcoef(noise.transpose(0, 1).flatten(1)).fill_diagonal_(0)
    assert channels.abs().max() < 0.3
