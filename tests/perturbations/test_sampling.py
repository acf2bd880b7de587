"""How images are perturbed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.sampling import PerturbationSampler, _moved, varied


def test_the_sampler_adds_members_of_the_set_to_a_share_of_the_images():
    rho = torch.stack([torch.full((3, 8, 8), 9.0), torch.full((3, 8, 8), -7.0)])
    norm = Ball(math.inf, 10.0)
    sampler = PerturbationSampler(rho, 0.5, False, norm, 1)
    images = torch.full((400, 3, 8, 8), 100.0)
    perturbed, coin = sampler(images, 5)
    assert set(perturbed.unique().tolist()) == {93.0, 100.0, 109.0}
    assert torch.equal(perturbed[~coin], images[~coin])
    assert (perturbed[coin] != 100).all()
    assert 0.4 < float(coin.float().mean()) < 0.6
    again, _ = PerturbationSampler(rho, 0.5, False, norm, 1)(images, 5)
    assert torch.equal(again, perturbed)
    other, _ = sampler(images, 6)
    assert not torch.equal(other, perturbed)
    bright, _ = sampler(torch.full((50, 3, 8, 8), 250.0), 0)
    assert bright.max() == 255
    with pytest.raises(UapError, match="perturbed_share is 0"):
        PerturbationSampler(rho, 0.0, False, norm, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(2.0, 60.0), (math.inf, 10.0)]))
def test_relatives_of_perturbations_stay_in_the_ball(seed, ball):
    norm = Ball(*ball)
    generator = torch.Generator().manual_seed(seed)
    rho = norm.normalise(torch.randn(3, 3, 8, 8, generator=generator)) * norm.eps
    middle = torch.full((4, 3, 8, 8), 127.0)
    perturbed, _ = PerturbationSampler(rho, 1.0, True, norm, seed)(middle, 0)
    sizes = norm.size(perturbed - middle)
    assert (sizes <= norm.eps * (1 + 1e-4)).all()
    assert (sizes > 0.2 * norm.eps).all()
    # flips, rolls, orders of channels and signs keep the values
    moved = _moved(rho[0], generator)
    torch.testing.assert_close(moved.abs().flatten().sort()[0], rho[0].abs().flatten().sort()[0])


def test_relatives_are_mixed_with_another_and_weakened_at_times():
    generator = torch.Generator().manual_seed(0)
    # Values tell what a relative is made of: 1 is one's own, 1000 the other's.
    rho, other = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    rho[0, 0, 0], other[0, 0, 0] = 1.0, 1000.0
    relatives = [varied(rho, other, generator).abs() for _ in range(1000)]
    mixed = [relative for relative in relatives if relative.max() > 100]
    alone = [relative.max().item() for relative in relatives if relative.max() <= 100]
    assert 0.25 < len(mixed) / 1000 < 0.35
    assert all(200 <= float(relative.max()) <= 1001.001 for relative in mixed)
    assert max(alone) == 1
    assert 0.25 < sum(value < 1 for value in alone) / len(alone) < 0.35
    assert min(alone) >= 0.5


def test_the_sampler_mixes_members_of_the_set():
    norm = Ball(math.inf, 10.0)
    rho = torch.zeros(2, 3, 8, 8)
    rho[0, 0, 0, 0], rho[1, 0, 0, 0] = 0.1, 10.0
    middle = torch.full((600, 3, 8, 8), 127.0)
    perturbed, _ = PerturbationSampler(rho, 1.0, True, norm, 0)(middle, 0)
    places = ((perturbed - middle) != 0).flatten(1).sum(1)
    # 3 in 10 are mixtures, and one in 192 of those puts both at one place
    assert 0.22 < float((places == 2).float().mean()) < 0.38
    # half of them of one member and the other
    pairs = (perturbed - middle).abs()[places == 2].flatten(1).topk(2, dim=1).values
    unlike = (pairs[:, 0] > 1.9) & (pairs[:, 1] < 0.2)
    assert 0.3 < float(unlike.float().mean()) < 0.7
