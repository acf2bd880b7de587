"""The balls, against float64 formulas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball, scaled_ball

cases = st.tuples(
    st.sampled_from([2.0, math.inf]),
    st.floats(0.01, 3000),
    st.integers(1, 9),
    st.integers(0, 2**31 - 1),
    st.floats(1e-3, 1e3),
)


def vector(size, seed, scale):
    return torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed)) * scale


@settings(max_examples=60, deadline=None)
@given(cases)
def test_projection_is_the_nearest_point_of_the_ball(case):
    p, eps, size, seed, scale = case
    norm, x = Ball(p, eps), vector(size, seed, scale)
    exact = x.double().numpy()
    if p == 2:
        expected = exact * min(1.0, eps / max(np.sqrt((exact**2).sum()), 1e-300))
    else:
        expected = np.clip(exact, -eps, eps)
    projected = norm.project(x)
    np.testing.assert_allclose(projected.numpy(), expected, rtol=1e-4, atol=1e-5 * eps)
    assert float(norm.size(projected)) <= eps * (1 + 1e-5)
    torch.testing.assert_close(norm.project(projected), projected)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_the_steepest_direction_beats_any_other_of_norm_one(case):
    p, eps, size, seed, scale = case
    norm, gradient = Ball(p, eps), vector(size, seed, scale)
    direction = norm.steepest(gradient)
    assert float(norm.size(direction)) == pytest.approx(1, rel=1e-4)
    other = norm.normalise(vector(size, seed + 1, 1.0))
    assert float((gradient * direction).sum()) >= float((gradient * other).sum()) - 1e-3 * scale


def test_each_of_a_batch_is_one_vector():
    batch = torch.stack([vector(4, seed, 30.0) for seed in range(5)])
    for norm in (Ball(2, 7.0), Ball(math.inf, 7.0)):
        for one, projected, size in zip(batch, norm.project(batch), norm.size(batch), strict=True):
            torch.testing.assert_close(norm.project(one), projected)
            torch.testing.assert_close(norm.size(one), size)


def test_zero_stays_zero():
    zero = torch.zeros(3, 4, 4)
    for p in (2.0, math.inf):
        assert not Ball(p, 1.0).normalise(zero).any()
        assert not Ball(p, 1.0).project(zero).any()


@pytest.mark.parametrize(("p", "eps"), [(1, 10), (3, 10), (2, 0), (2, -1), (math.inf, math.inf)])
def test_another_norm_or_radius_is_refused(p, eps):
    with pytest.raises(UapError, match=r"norm\.(p|eps) is"):
        Ball(p, eps)


def test_an_l2_radius_scales_with_the_side_and_an_linf_radius_does_not():
    assert scaled_ball(2, 2000, 224, 224).eps == 2000
    # sqrt(d) at 112 is half of what it is at 224
    assert scaled_ball(2, 2000, 224, 112).eps == pytest.approx(2000 * math.sqrt(112**2 / 224**2))
    assert scaled_ball(math.inf, 10, None, 112).eps == 10


@pytest.mark.parametrize(("p", "eps"), [(math.inf, 255.0), (2.0, 255.0 * math.sqrt(3) * 224)])
def test_a_radius_that_takes_in_every_image_is_refused(p, eps):
    with pytest.raises(UapError, match="the distance from black to white"):
        scaled_ball(p, eps * 1.001, 224 if p == 2 else None, 32)


@settings(max_examples=50, deadline=None)
@given(
    p=st.sampled_from([2.0, math.inf]),
    eps=st.floats(1e-3, 300.0),
    size=st.integers(1, 12),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 1000),
)
def test_the_projection_is_that_of_double_precision(p, eps, size, scale, seed):
    vector = torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed)) * scale
    exact = vector.double()
    if p == 2:
        length = float(exact.square().sum().sqrt())
        exact = exact * min(1.0, eps / length) if length else exact
    else:
        exact = torch.minimum(torch.maximum(exact, torch.tensor(-eps)), torch.tensor(eps))
    projected = Ball(p, eps).project(vector)
    torch.testing.assert_close(projected.double(), exact, rtol=1e-5, atol=1e-7)
