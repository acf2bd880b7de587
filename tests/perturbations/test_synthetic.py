"""Algorithm 1: the three conditions of section 4.2."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from tests.tiny import truth
from uap_lightning.core.errors import UapError
from uap_lightning.perturbations import synthetic
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.published import SOURCES, read_published
from uap_lightning.perturbations.synthetic import extend, nearest, synthesise

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "perturbations"


def crafted(norm, count, size, seed):
    rho = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return norm.project(rho * norm.eps) if norm.p != 2 else norm.normalise(rho) * norm.eps


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([(2.0, 100.0), (math.inf, 10.0)]),
    st.integers(3, 6),
    st.integers(4, 9),
    st.integers(0, 10_000),
)
def test_synthetic_perturbations_keep_c1_c2_c3(ball, count, size, seed):
    norm = Ball(*ball)
    rho = crafted(norm, count, size, seed)
    made = synthesise(rho, norm, 4, seed)
    assert made.shape == (4, 3, size, size)
    basis = rho.flatten(1).T.double().numpy()
    for one in made:
        values = one.flatten().double().numpy()
        # c1: a combination of the crafted ones with coefficients that are not negative; where it
        # went beyond the ball, it was brought back
        inside = np.abs(values) < norm.eps * (1 - 1e-6) if norm.p != 2 else slice(None)
        coefficients, _ = nnls(basis[inside], values[inside])
        walked = basis @ coefficients
        projected = np.clip(walked, -norm.eps, norm.eps) if norm.p != 2 else walked
        np.testing.assert_allclose(projected, values, atol=1e-3 * norm.eps)
        # c3, and for l2 its counterpart: the walk ends on the sphere
        assert float(norm.size(one)) == pytest.approx(norm.eps, rel=1e-4)
        if norm.p != 2:
            # c2: the walk as line 8 judges it
            mean = np.mean([float(r.norm()) for r in rho])
            assert np.linalg.norm(walked) >= mean * (1 - 1e-3)


def test_the_set_is_crafted_ones_first_and_depends_on_the_seed():
    norm = Ball(math.inf, 10.0)
    rho = crafted(norm, 4, 8, 0)
    extended = extend(rho, norm, 9, 1)
    assert torch.equal(extended[:4], rho)
    assert len(extended) == 9
    assert torch.equal(extended, extend(rho, norm, 9, 1))
    assert not torch.equal(extended, extend(rho, norm, 9, 2))
    assert torch.equal(extend(rho, norm, 4, 0), rho)
    with pytest.raises(UapError, match=r"bank\.extended is 3"):
        extend(rho, norm, 3, 0)


def test_one_crafted_perturbation_is_enough():
    norm = Ball(math.inf, 10.0)
    rho = crafted(norm, 1, 8, 3)
    assert len(extend(rho, norm, 4, 0)) == 4


def test_a_walk_that_does_not_end_says_so(monkeypatch):
    norm = Ball(math.inf, 10.0)
    rho = crafted(norm, 1, 4, 0)
    monkeypatch.setattr(synthetic, "MAX_STEPS", 2)
    with pytest.raises(UapError, match="did not reach its bound in 2 steps"):
        synthesise(torch.cat([rho, -rho]), norm, 200, 0)


def test_walks_that_are_never_accepted_say_so(monkeypatch):
    norm = Ball(math.inf, 10.0)
    # one perturbation fills every pixel and three fill one: few walks reach the mean l2 norm
    rho = torch.zeros(4, 3, 4, 4)
    rho[0] = 10
    rho[1:, :, 0, 0] = 10
    monkeypatch.setattr(synthetic, "MAX_REJECTED", 2)
    with pytest.raises(UapError, match="2 synthetic perturbations in a row fell below the mean"):
        synthesise(rho, norm, 50, 0)


def test_the_nearest_is_the_one_of_largest_absolute_cosine():
    made, crafted = torch.tensor(truth(5, 1))[None], torch.randn(4, 3, 5, 5)
    crafted[2] = -3 * made[0] + 0.1 * crafted[2]
    number, cosine = nearest(made, crafted)
    one, other = made.flatten().double(), crafted[2].flatten().double()
    assert int(number) == 2
    assert float(cosine) == pytest.approx(
        float(-(one @ other) / one.norm() / other.norm()), abs=1e-5
    )


def cosines(made, crafted):
    """Absolute cosines in double precision: N x K."""
    made, crafted = made.flatten(1).double().numpy(), crafted.flatten(1).double().numpy()
    lengths = np.linalg.norm(made, axis=1)[:, None] * np.linalg.norm(crafted, axis=1)
    return np.abs(made @ crafted.T) / lengths


def is_varied(made, rho, norm):
    best = cosines(made, rho).max(1)
    assert 0.6 < best.mean() < 0.95  # 0.71 and 0.83 in Figure 3
    assert best.max() <= 0.96
    assert (norm.size(made) <= norm.eps * (1 + 1e-5)).all()
    assert float(made.flatten(1).norm(dim=1).min()) > 0.6 * float(rho.flatten(1).norm(dim=1).mean())
    among = cosines(made, made) - np.eye(len(made))
    assert among.max() < 1 - 1e-9  # no two are the same
    assert np.median(among.max(1)) < 0.999


@pytest.mark.parametrize("count", [4, 20])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ball", [(2.0, 280.0), (math.inf, 10.0)])
def test_mixtures_of_saturated_perturbations_are_no_copies(count, seed, ball):
    norm = Ball(*ball)
    rho = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).sign()
    rho = norm.eps * norm.normalise(rho)
    is_varied(synthesise(rho, norm, 24, seed), rho, norm)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
def test_mixtures_of_published_perturbations_are_no_copies():
    norm = Ball(math.inf, 10.0)
    files = sorted(PUBLISHED.glob("sfr/*/*.h5"))
    rho = torch.stack([read_published(path, SOURCES["sfr_uap_h5"], norm) for path in files])
    rho = rho[:, :, 60:124, 60:124]
    is_varied(synthesise(rho, norm, 24, 0), rho, norm)


def test_crafted_ones_that_are_alike_are_mixed_all_the_same():
    norm = Ball(math.inf, 10.0)
    one, other = (
        torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(seed)).sign() * 10
        for seed in (0, 1)
    )
    twin = one.clone()
    twin[:, :1] = other[:, :1]
    made = synthesise(torch.stack([one, twin]), norm, 12, 0)
    best = cosines(made, torch.stack([one, twin])).max(1)
    assert best.max() < 0.9999
