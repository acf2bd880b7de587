"""The intervals of the metrics, over photographs and over perturbations."""

import math
import random
import statistics

import pytest
import scipy.stats
import torch

from tests.results.outcomes import A, brute_force, lists, random_outcomes
from uap_lightning.results import metrics
from uap_lightning.results.metrics import WITH_INTERVAL, Outcomes, summarise
from uap_lightning.results.protocols import Protocol


def test_the_interval_is_that_of_photographs_not_crops():
    """Crops that agree within a photograph: the interval is that of few photographs."""
    photographs, crops = 20, 30
    right = torch.rand(photographs, generator=torch.Generator().manual_seed(3)) < 0.7
    label = torch.zeros(photographs * crops, dtype=torch.long)
    guess = (~right).long().repeat_interleave(crops)
    zeros = torch.zeros(len(label))
    outcomes = Outcomes(
        photograph=torch.arange(photographs).repeat_interleave(crops),
        perturbation=label,
        label=label,
        coin=zeros + 0.9,
        clean=label,
        perturbed=guess,
        rectified_clean=guess,
        rectified_perturbed=guess,
        score_clean=zeros + 1,
        score_perturbed=zeros + 1,
    )
    low, high = summarise(outcomes, A, 0).ci95["defense_rate"]
    share = float(right.float().mean())
    expected = 2 * 1.96 * 100 * math.sqrt(share * (1 - share) / photographs)
    assert high - low == pytest.approx(expected, rel=0.25)


def a_bootstrap(o, correct_only, share, resamples, seed):
    """Intervals by drawing whole photographs, one resample at a time, with another generator."""
    rng = random.Random(seed)
    crops = {}
    for i, photograph in enumerate(o["photograph"]):
        if not correct_only or o["clean"][i] == o["label"][i]:
            crops.setdefault(photograph, []).append(i)
    names = sorted(crops)
    found = {name: [] for name in WITH_INTERVAL}
    for _ in range(resamples):
        drawn = [i for _ in names for i in crops[rng.choice(names)]]
        again = {name: [values[i] for i in drawn] for name, values in o.items()}
        numbers = brute_force(again, correct_only, share)
        for name, values in found.items():
            values.append(numbers[name])
    return found


@pytest.mark.parametrize("correct_only", [False, True])
def test_the_interval_is_the_middle_95_percent_of_resampled_photographs(correct_only):
    """Against a bootstrap of its own; a 90 % interval or one over crops is further off.

    The quantile q of n draws from a normal distribution of deviation s has the standard error
    s sqrt(q (1 - q) / n) / density(q): 0.084 s for q = 0.025 and n = 1,000, and 0.045 s for the
    3,500 of the code, together 0.095 s. Half a width is 1.96 s, so four errors are a fifth of it.
    The 5 % quantile is 0.32 s further in, which is as much as a sixth: of ten ends, hence, the
    mean is compared, to four of its errors; ends of five rates are not independent, so they
    count as two.
    """
    outcomes = random_outcomes(160, 8, classes=2, photographs=40)
    found = a_bootstrap(lists(outcomes), correct_only, 0.5, 1_000, 0)
    ci95 = summarise(outcomes, Protocol(correct_only, 0.5), 0, resamples=3_500).ci95
    off = []
    for name in WITH_INTERVAL:
        values = sorted(found[name])
        deviation = statistics.stdev(values)
        low, high = ci95[name]
        wanted = statistics.quantiles(values, n=40, method="inclusive")
        off += [(low - wanted[0]) / deviation, (wanted[-1] - high) / deviation]
    assert max(map(abs, off)) < 4 * 0.095
    assert abs(statistics.mean(off)) < 4 * 0.095 / math.sqrt(2 * 2)


def test_the_interval_depends_on_the_seed_alone():
    outcomes = random_outcomes(90, 4)
    first, again, other = (summarise(outcomes, A, seed).ci95 for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(("right", "known"), [(1, False), (8, True)])
def test_there_is_no_interval_where_many_resamples_divide_by_zero(right, known):
    """Of 20 photographs ``right`` are: a resample misses them all with (1 - right / 20) ** 20.

    That is 36 % for one, far above 2.5 %, and 0.004 % for eight.
    """
    count = 20
    label = torch.zeros(count, dtype=torch.long)
    rectified = (torch.arange(count) >= right).long()
    ones = torch.ones(count)
    outcomes = Outcomes(
        photograph=torch.arange(count),
        perturbation=label,
        label=label,
        coin=ones * 0,
        clean=label,
        perturbed=1 - rectified,  # right where the rectified one is wrong: -inf, not NaN
        rectified_clean=label,
        rectified_perturbed=rectified,
        score_clean=ones,
        score_perturbed=ones,
    )
    numbers = summarise(outcomes, A, 0)
    assert numbers.prn_gain is not None
    assert (numbers.ci95["prn_gain"] is not None) == known
    assert numbers.ci95["defense_rate"] is not None


def seen(right, photograph, perturbation):
    """Outcomes of perturbed images that the detector finds, rectified right or wrong."""
    ones, count = torch.ones(len(right)), len(right)
    label = torch.zeros(count, dtype=torch.long)
    return Outcomes(
        photograph=photograph,
        perturbation=perturbation,
        label=label,
        coin=ones * 0,
        clean=label,
        perturbed=1 - right.long(),
        rectified_clean=label,
        rectified_perturbed=1 - right.long(),
        score_clean=-ones,
        score_perturbed=ones,
    )


def test_with_a_crop_a_photograph_it_is_the_t_interval_of_the_perturbations_means():
    kinds, each = 5, 80
    g = torch.Generator().manual_seed(2)
    which = torch.arange(kinds).repeat_interleave(each)
    right = torch.rand(kinds * each, generator=g) < torch.linspace(0.5, 0.9, kinds)[which]
    numbers = summarise(seen(right, torch.arange(len(right)), which + 3), A, 0, resamples=10)
    means = 100 * right.double().view(kinds, each).mean(1)
    wanted = scipy.stats.t.interval(
        0.95, kinds - 1, loc=float(means.mean()), scale=scipy.stats.sem(means.numpy())
    )
    assert numbers.ci95_perturbations["defense_rate"] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("kinds", "known"), [(1, False), (2, False), (3, True)])
def test_fewer_than_three_perturbations_say_nothing_of_others(kinds, known):
    which = torch.arange(60) % kinds
    numbers = summarise(seen(torch.arange(60) % 7 > 1, torch.arange(60), which), A, 0, 50)
    assert numbers.ci95["defense_rate"] is not None
    assert (numbers.ci95_perturbations["defense_rate"] is not None) == known


@pytest.mark.parametrize("crops", [1, 5])
def test_the_second_interval_covers_new_perturbations_where_the_first_does_not(crops):
    """Perturbations of rates 0.58 to 0.82 around 0.7, five a study, on 1,000 crops.

    Of 120 studies an interval of 95 % misses 6, and 13 or more with a chance of 0.7 %; the
    bootstrap over photographs, which keeps the five, misses about 50.
    """
    g = torch.Generator().manual_seed(0)
    photograph = torch.arange(1_000) // crops
    missed = {"ci95": 0, "ci95_perturbations": 0}
    for study in range(120):
        rate = 0.7 + 0.12 * (2 * torch.rand(5, generator=g) - 1)
        which = torch.randint(5, (1_000,), generator=g)
        right = torch.rand(1_000, generator=g) < rate[which]
        numbers = summarise(seen(right, photograph, which), A, study, resamples=100)
        for name in missed:
            low, high = getattr(numbers, name)["defense_rate"]
            missed[name] += not low <= 70 <= high
    assert missed["ci95"] > 30
    assert missed["ci95_perturbations"] < 13


def test_crops_of_a_photograph_under_several_perturbations_are_not_independent():
    """All perturbations alike, photographs not: the variance is that of photographs alone.

    Student's t of four degrees of freedom has its quantile at 2.78, a normal one at 1.96: 1.42
    times as wide. Without V(photographs) as the least it would be 1.27 times.
    """
    g = torch.Generator().manual_seed(1)
    photograph = torch.arange(60).repeat_interleave(5)
    right = (torch.rand(60, generator=g) < 0.6).repeat_interleave(5)
    numbers = summarise(seen(right, photograph, torch.arange(300) % 5), A, 0)
    low, high = numbers.ci95["defense_rate"]
    wide = numbers.ci95_perturbations["defense_rate"]
    assert wide[1] - wide[0] > 1.34 * (high - low)


@pytest.mark.parametrize("block", [1, 400, 10_000_000])
def test_resamples_are_the_same_in_blocks_of_any_size(monkeypatch, block):
    """As one photograph after the other is counted, in one draw of all resamples."""
    monkeypatch.setattr(metrics, "_DRAWN", block)
    values = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)).double()
    drawn = torch.randint(40, (50, 40), generator=torch.Generator().manual_seed(5))
    expected = [[sum(float(row[n]) for n in resample) for row in values] for resample in drawn]
    found = metrics._resampled(values, 5, 50)
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64))
    assert metrics._resampled(values[:, :0], 5, 50).shape == (50, 3)
