"""How images are perturbed."""

import math
from collections import Counter
from itertools import permutations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.sampling import (
    CHANCES,
    PerturbationSampler,
    draw_pairs,
    moved,
    varied,
)


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
    relatives = moved(rho, torch.rand(3, 10, generator=generator))
    for relative, own in zip(relatives, rho, strict=True):
        values = [x.abs().flatten().sort()[0] for x in (relative, own)]
        torch.testing.assert_close(*values)


@pytest.mark.parametrize("vary", [False, True])
def test_strengths_are_even_on_a_scale_of_logarithms_and_may_leave_the_ball(vary):
    rho = torch.full((1, 3, 8, 8), 10.0)
    middle = torch.full((2000, 3, 8, 8), 127.0)
    sampler = PerturbationSampler(rho, 1.0, vary, Ball(math.inf, 10.0), 0, strengths=(0.4, 2.5))
    factors = (sampler(middle, 0)[0] - middle).abs().amax((1, 2, 3)) / 10
    if vary:  # mixed ones are larger, weakened ones smaller
        assert float(factors.max()) > 2.5
        assert float(factors.min()) < 0.4
        return
    assert 0.4 <= float(factors.min()) < 0.42
    assert 2.4 < float(factors.max()) <= 2.5
    # half of the draws lie below the geometric mean of both
    assert 0.46 < float((factors < 1.0).float().mean()) < 0.54


def test_weights_decide_how_often_each_is_drawn():
    rho = torch.arange(1.0, 4.0).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    weights = torch.tensor([0.6, 0.0, 0.4])
    sampler = PerturbationSampler(rho, 1.0, False, Ball(math.inf, 10.0), 0, weights=weights)
    middle = torch.full((2000, 3, 4, 4), 127.0)
    drawn = Counter((sampler(middle, 0)[0] - middle)[:, 0, 0, 0].tolist())
    assert set(drawn) == {1.0, 3.0}
    assert 0.56 < drawn[1.0] / 2000 < 0.64


def test_relatives_are_mixed_with_another_and_weakened_at_times():
    # Values tell what a relative is made of: 1 is one's own, 1000 the other's.
    rho, other = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    rho[0, 0, 0], other[0, 0, 0] = 1.0, 1000.0
    relatives = [relative.abs() for relative in relatives_of(rho, other, 1000)]
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


def test_the_draw_depends_on_the_seed_only():
    rho = torch.randn(3, 3, 4, 4)
    first, again, other = (draw_pairs(rho, 500, seed) for seed in (0, 0, 1))
    assert torch.equal(first.coin, again.coin)
    assert torch.equal(first.perturbation, again.perturbation)
    assert not torch.equal(first.coin, other.coin)
    assert not torch.equal(first.perturbation, other.perturbation)
    assert first.perturbations is rho
    assert len(first.perturbation) == len(first.coin) == 500
    assert set(first.perturbation.tolist()) == {0, 1, 2}
    assert 0.4 < float((first.coin < 0.5).float().mean()) < 0.6


def test_every_refusal_says_what_is_expected():
    for share in (0.0, -0.5, 1.001):
        with pytest.raises(UapError) as error:
            PerturbationSampler(torch.zeros(1, 3, 8, 8), share, False, Ball(math.inf, 10.0), 1)
        assert str(error.value) == (
            f"perturbed_share is {share}: expected a probability above 0 and at most 1, such as "
            "the paper's 0.5."
        )


def test_all_are_perturbed_at_a_share_of_one_and_within_the_range_of_pixels():
    sampler = PerturbationSampler(torch.full((1, 3, 8, 8), -9.0), 1.0, False, Ball(2.0, 1e3), 3)
    perturbed, coin = sampler(torch.full((30, 3, 8, 8), 4.0), 0)
    assert coin.all()
    assert (perturbed == 0).all()
    bright, _ = PerturbationSampler(torch.full((1, 3, 8, 8), 9.0), 1.0, False, Ball(2.0, 1e3), 3)(
        torch.full((30, 3, 8, 8), 253.5), 0
    )
    assert (bright == 255).all()


@pytest.mark.parametrize("vary", [False, True])
def test_processes_that_share_a_batch_see_what_one_process_sees(vary):
    rho = torch.randn(4, 3, 8, 8)
    sampler = PerturbationSampler(rho, 0.5, vary, Ball(math.inf, 10.0), 2)
    images = torch.full((24, 3, 8, 8), 100.0)
    whole, coins = sampler(images, 7)
    for first in (0, 1):
        places = list(range(first, 24, 2))
        part, coin = sampler(images[places], 7, places, 24)
        assert torch.equal(part, whole[places])
        assert torch.equal(coin, coins[places])


def test_steps_and_seeds_do_not_repeat_each_other():
    rho = torch.randn(4, 3, 8, 8)
    images = torch.full((64, 3, 8, 8), 100.0)
    coins = [
        tuple(PerturbationSampler(rho, 0.5, False, Ball(2.0, 10.0), seed)(images, step)[1].tolist())
        for seed in range(4)
        for step in range(20)
    ]
    assert len(set(coins)) == 80


def relatives_of(rho, other, count):
    """Relatives of a perturbation, mixed with another at times."""
    chances = torch.rand(count, CHANCES, generator=torch.Generator().manual_seed(0))
    which = torch.zeros(count, dtype=torch.long)
    return [*varied(torch.stack([rho, other]), which, which + 1, chances)]


def test_every_treatment_happens_as_often_as_said():
    """Each relative is looked up among all treatments of a perturbation, by brute force."""
    rho = torch.arange(1.0, 28.0).view(3, 3, 3)
    counts = Counter()
    chances = torch.rand(600, 10, generator=torch.Generator().manual_seed(0))
    relatives = moved(rho.expand(600, -1, -1, -1), chances)
    table = {}
    for order in permutations(range(3)):
        for down, right, up, mirror, turned in product(range(3), range(3), *[(False, True)] * 3):
            x = rho[list(order)]
            x = torch.stack([torch.stack([c.roll(right, 0) for c in m]) for m in x])
            x = torch.stack([m[[(r - down) % 3 for r in range(3)]] for m in x])
            x = x[:, [2, 1, 0]] if up else x
            x = x[:, :, [2, 1, 0]] if mirror else x
            x = torch.stack([m.T for m in x]) if turned else x
            table[tuple(x.flatten().tolist())] = (order, down, right, up, mirror, turned)
    for x in relatives:
        sign = 1 if float(x.sum()) > 0 else -1
        found = table[tuple((sign * x).flatten().tolist())]
        counts["negated"] += sign < 0
        counts["order kept"] += found[0] == (0, 1, 2)
        counts.update([("order", found[0]), ("down", found[1]), ("right", found[2])])
        for name, happened in zip(("up", "mirror", "turned"), found[3:], strict=True):
            counts[name] += happened
    assert 250 < counts["negated"] < 350
    for name in ("up", "mirror", "turned"):
        assert 100 < counts[name] < 500, name
    # one in four is permuted, and one permutation of six is none
    assert abs(counts["order kept"] - 600 * (0.75 + 0.25 / 6)) < 4 * 10
    for place in range(3):
        assert abs(counts["down", place] - 200) < 4 * 12
        assert abs(counts["right", place] - 200) < 4 * 12


def test_a_relative_is_mixed_or_weakened_at_times():
    """Values tell: of rho alone 10, of the other 1; weakened to half at least."""
    count = 1200
    values = [
        float(relative.abs().flatten()[0])
        for relative in relatives_of(torch.full((3, 2, 2), 10.0), torch.full((3, 2, 2), 0.0), count)
    ]
    alone = sum(value == 10 for value in values)
    # neither mixed (0.3) nor weakened (0.3)
    assert abs(alone / count - 0.49) < 4 * 0.0145
    assert min(values) >= 0.4 * 0.5 * 10
    assert min(values) < 2.6
    mixed = [
        float(r.abs().flatten()[0])
        for r in relatives_of(torch.full((3, 2, 2), 0.0), torch.full((3, 2, 2), 10.0), count)
    ]
    assert abs(sum(value > 0 for value in mixed) / count - 0.3) < 4 * 0.0133
    whole = [value for value in mixed if value > 0]
    assert 9.5 < max(whole) <= 10
    assert 2 <= min(whole) < 2.8
    halves = [v for v in values if 5 <= v < 10]
    assert halves
