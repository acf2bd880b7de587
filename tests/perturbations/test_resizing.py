"""Perturbations at other scales and sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from uap_lightning.perturbations import resizing as module
from uap_lightning.perturbations.resizing import COARSEST, FINEST, mirrored, rescaled


def wave(side: int, period: float) -> torch.Tensor:
    """A grey plane wave that runs to the right."""
    line = 10 * torch.sin(2 * torch.pi * torch.arange(side) / period)
    return line.expand(1, 3, side, side).contiguous()


def period_of(pattern: torch.Tensor) -> float:
    """The pattern's period along its rows, from the strongest coefficient of numpy's FFT."""
    rows = pattern.mean(0).numpy()
    padded = np.abs(np.fft.rfft(rows * np.hanning(rows.shape[1]), n=4096, axis=1)).mean(0)
    return 4096 / int(padded.argmax())


def test_waves_become_longer_and_shorter_by_the_scales_and_by_no_others():
    periods = [period_of(copy) / 12 for copy in rescaled(wave(128, 12.0), 60, 0)]
    assert min(periods) == pytest.approx(FINEST, rel=0.08)
    assert max(periods) == pytest.approx(COARSEST, rel=0.08)
    # Even on a scale of logarithms: half of them lie below the root of the product.
    assert np.mean(np.array(periods) < (FINEST * COARSEST) ** 0.5) == pytest.approx(0.5, abs=0.2)


def test_a_copy_of_twice_the_size_is_what_scipy_makes_of_it(monkeypatch):
    """Away from the edges, up to the place it is cut at and the factor it is scaled by."""
    monkeypatch.setattr(module, "FINEST", 2.0)
    monkeypatch.setattr(module, "COARSEST", 2.0)
    rho = 10 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) - 5
    smooth = torch.from_numpy(ndimage.gaussian_filter(rho.numpy(), (0, 0, 2, 2))).float()
    copy = rescaled(smooth, 1, 3)[0].numpy()
    # zoom of scipy keeps the corners in place; grid_mode counts pixels as areas, as torch does.
    whole = ndimage.zoom(smooth[0].numpy(), (1, 2, 2), order=3, grid_mode=True, mode="nearest")
    best = max(
        np.corrcoef(whole[:, y : y + 32, x : x + 32].ravel(), copy.ravel())[0, 1]
        for y in range(33)
        for x in range(33)
    )
    assert best > 0.995


@settings(max_examples=20, deadline=None)
@given(side=st.integers(8, 40), copies=st.integers(0, 3), seed=st.integers(0, 1000))
def test_copies_stay_in_both_balls_and_keep_most_of_the_strength(side, copies, seed):
    signs = torch.randint(0, 2, (2, 3, side, side), generator=torch.Generator().manual_seed(seed))
    rho = 20.0 * signs - 10
    made = rescaled(rho, copies, seed)
    assert made.shape == (2 * copies, 3, side, side)
    assert torch.equal(made, rescaled(rho, copies, seed))
    for copy in made:
        assert copy.abs().max() <= 10 + 1e-4
        assert 0.5 * rho.norm() < copy.norm() <= rho.norm() * (1 + 1e-5)


def test_another_seed_gives_other_copies_and_nothing_stays_nothing():
    rho = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(rescaled(rho, 1, 0), rescaled(rho, 1, 1))
    assert torch.equal(rescaled(torch.zeros(1, 3, 16, 16), 2, 0), torch.zeros(2, 3, 16, 16))


@settings(max_examples=20, deadline=None)
@given(side=st.integers(1, 9), more=st.integers(0, 30))
def test_a_mirrored_perturbation_is_what_numpy_pads_by_mirror_images(side, more):
    rho = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
    padded = np.pad(rho.numpy(), ((0, 0), (0, 0), (0, more), (0, more)), mode="symmetric")
    assert np.array_equal(mirrored(rho, side + more).numpy(), padded)
