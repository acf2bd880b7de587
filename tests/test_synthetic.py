"""Algorithm 1: the three conditions of section 4.2."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations import synthetic
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.synthetic import extend, synthesise


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
        # c1: a combination of the crafted ones with coefficients that are not negative
        coefficients, residual = nnls(basis, one.flatten().double().numpy())
        assert residual < 1e-3 * float(one.norm())
        assert (coefficients >= 0).all()
        # c3, and for l2 its counterpart: the walk ends on the sphere
        assert float(norm.size(one)) == pytest.approx(norm.eps, rel=1e-4)
        if norm.p != 2:
            # c2
            mean = np.mean([float(r.norm()) for r in rho])
            assert float(one.norm()) >= mean * (1 - 1e-6)


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
