"""The metrics against a brute-force reading of section 5."""

import math
import random
import statistics
from dataclasses import replace

import pytest
import scipy.stats
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uap_lightning.core.errors import UapError
from uap_lightning.results import metrics
from uap_lightning.results.metrics import (
    WITH_INTERVAL,
    Outcomes,
    Streamed,
    summarise,
    with_stream,
)
from uap_lightning.results.protocols import Protocol

A, B = Protocol(False, 0.5), Protocol(True, 0.5)


NOTHING_RIGHT = (
    "^protocol b counts the test images that the network classifies correctly when clean, and "
    "there is none: check that the labels are the network's classes, or set protocol=a.$"
)


def random_outcomes(count, seed, classes=3, photographs=None):
    g = torch.Generator().manual_seed(seed)

    def classes_of():
        return torch.randint(classes, (count,), generator=g)

    return Outcomes(
        photograph=torch.randint(photographs or count // 3, (count,), generator=g),
        perturbation=torch.arange(count) % 4,
        label=classes_of(),
        coin=torch.rand(count, generator=g),
        clean=classes_of(),
        perturbed=classes_of(),
        rectified_clean=classes_of(),
        rectified_perturbed=classes_of(),
        score_clean=torch.randn(count, generator=g),
        score_perturbed=torch.randn(count, generator=g),
    )


def lists(outcomes):
    return {name: values.tolist() for name, values in vars(outcomes).items()}


def brute_force(o, correct_only, share):
    """One image at a time, in the words of section 5; plain Python."""
    images = range(len(o["label"]))
    if correct_only:  # Protocol-B: the test images that the network gets right when clean
        images = [i for i in images if o["clean"][i] == o["label"][i]]
    sets = {
        name: {}
        for name in ("I_c", "I_rho", "R_rho", "R_rho/c", "mixed", "I_star", "I_star of clean")
    }
    detected, fooled = [], []
    for i in images:
        is_perturbed = o["coin"][i] < share
        flagged = {True: o["score_perturbed"][i] > 0, False: o["score_clean"][i] > 0}
        seen = {True: o["perturbed"][i], False: o["clean"][i]}
        rectified = {True: o["rectified_perturbed"][i], False: o["rectified_clean"][i]}
        sets["I_c"][i] = seen[False]
        sets["I_rho"][i] = seen[True]
        sets["R_rho"][i] = rectified[True]
        sets["R_rho/c"][i] = rectified[is_perturbed]
        sets["mixed"][i] = seen[is_perturbed]
        # rectified by the PRN only if the detector classifies it as perturbed
        sets["I_star"][i] = (rectified if flagged[is_perturbed] else seen)[is_perturbed]
        sets["I_star of clean"][i] = (rectified if flagged[False] else seen)[False]
        detected.append(flagged[is_perturbed] == is_perturbed)
        fooled.append(seen[True] != seen[False])

    def acc(name):
        right = [answer == o["label"][i] for i, answer in sets[name].items()]
        return sum(right) / len(right)

    def percent(value, whole=1):
        return 100 * value / whole if whole else None

    return {
        "n_images": len(images),
        "n_photographs": len({o["photograph"][i] for i in images}),
        "n_perturbed": sum(o["coin"][i] < share for i in images),
        "acc_clean": percent(acc("I_c")),
        "acc_perturbed": percent(acc("I_rho")),
        "acc_rectified_perturbed": percent(acc("R_rho")),
        "acc_rectified_mixed": percent(acc("R_rho/c")),
        "acc_undefended_mixed": percent(acc("mixed")),
        "acc_defended": percent(acc("I_star")),
        "acc_defended_clean": percent(acc("I_star of clean")),
        "fooling_ratio": percent(sum(fooled), len(fooled)),
        "detection_rate": percent(sum(detected), len(detected)),
        "prn_gain": percent(acc("R_rho") - acc("I_rho"), acc("R_rho")),
        "prn_restoration": percent(acc("R_rho/c"), acc("I_c")),
        "undefended_rate": percent(acc("mixed"), acc("I_c")),
        "defense_rate": percent(acc("I_star"), acc("I_c")),
    }


@settings(max_examples=40, deadline=None)
@given(st.integers(30, 90), st.integers(0, 10_000), st.booleans(), st.sampled_from([0.3, 0.5]))
@example(30, 275, True, 0.3)  # no rectified image is right
@example(60, 1, False, 0.3)
def test_rows_equal_the_brute_force(count, seed, correct_only, share):
    outcomes = random_outcomes(count, seed)
    numbers = vars(summarise(outcomes, Protocol(correct_only, share), 0, resamples=50)).copy()
    assert set(numbers.pop("ci95")) == set(WITH_INTERVAL)
    assert set(numbers.pop("ci95_perturbations")) == set(WITH_INTERVAL)
    for name, value in brute_force(lists(outcomes), correct_only, share).items():
        number = numbers.pop(name)
        assert number == (value if value is None else pytest.approx(value, abs=1e-9)), name
    assert numbers == {"stream_rate": None, "stream_rate_16": None}


def test_a_score_of_zero_and_a_coin_at_the_share_are_clean():
    """The detector fires above zero; an image is perturbed below the share."""
    one = torch.ones(1)
    outcomes = Outcomes(
        photograph=one.long(),
        perturbation=one.long(),
        label=one.long(),
        coin=one / 2,
        clean=one.long(),
        **dict.fromkeys(("perturbed", "rectified_clean", "rectified_perturbed"), one.long() * 0),
        score_clean=one * 0,
        score_perturbed=one * 0,
    )
    numbers = summarise(outcomes, A, 0, resamples=2)
    assert numbers.n_perturbed == 0
    assert numbers.acc_undefended_mixed == numbers.acc_defended == numbers.detection_rate == 100
    almost = replace(outcomes, coin=one / 2 - 1e-6)
    numbers = summarise(almost, A, 0, resamples=2)
    assert numbers.n_perturbed == 1
    assert numbers.acc_undefended_mixed == numbers.acc_defended == numbers.detection_rate == 0


def test_a_perfect_defence_scores_one_hundred():
    n = 40
    label = torch.arange(n) % 4
    outcomes = Outcomes(
        photograph=torch.arange(n) // 4,
        perturbation=torch.arange(n) % 3,
        label=label,
        coin=torch.rand(n, generator=torch.Generator().manual_seed(0)),
        clean=label,
        perturbed=(label + 1) % 4,
        rectified_clean=label,
        rectified_perturbed=label,
        score_clean=-torch.ones(n),
        score_perturbed=torch.ones(n),
    )
    for protocol in (A, B):
        row = summarise(outcomes, protocol, 0)
        for name in ("prn_gain", "prn_restoration", "detection_rate", "defense_rate"):
            assert getattr(row, name) == 100
            assert row.ci95[name] == row.ci95_perturbations[name] == (100, 100)
        assert row.undefended_rate == pytest.approx(100 * (1 - row.n_perturbed / n))
        assert row.n_photographs == 10


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


def test_nothing_right_is_no_number():
    outcomes = random_outcomes(30, 1)
    wrong = Outcomes(**{**vars(outcomes), "label": torch.full((30,), 9)})
    row = summarise(wrong, A, 0, resamples=20)
    assert row.defense_rate is None
    assert row.prn_gain is None
    assert row.ci95["defense_rate"] is None
    assert row.detection_rate is not None
    with pytest.raises(UapError, match=NOTHING_RIGHT):
        summarise(wrong, B, 0)


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


@pytest.mark.parametrize("protocol", [A, B], ids=["a", "b"])
@pytest.mark.parametrize("seed", range(4))
def test_the_stream_is_counted_as_the_defense_rate_is(protocol, seed):
    """One image at a time."""
    outcomes = random_outcomes(90, seed)
    generator = torch.Generator().manual_seed(seed)
    streamed = Streamed(
        torch.randint(3, (90,), generator=generator), torch.randint(30, (90,), generator=generator)
    )
    plain = summarise(outcomes, protocol, seed)
    numbers = with_stream(plain, outcomes, streamed, protocol, seed)
    o, prediction, met = lists(outcomes), streamed.prediction.tolist(), streamed.met.tolist()
    for least, rate in ((0, numbers.stream_rate), (16, numbers.stream_rate_16)):
        right = clean = 0
        for i in range(90):
            known = o["clean"][i] == o["label"][i]
            if met[i] < least or (protocol.correct_only and not known):
                continue
            right += prediction[i] == o["label"][i]
            clean += known
        assert rate == pytest.approx(100 * right / clean)
    for name in ("stream_rate", "stream_rate_16"):
        low, high = numbers.ci95[name]
        assert low < getattr(numbers, name) < high
    assert replace(numbers, stream_rate=None, stream_rate_16=None, ci95=plain.ci95) == plain


def test_a_stream_that_answers_as_the_defence_does_has_its_interval():
    outcomes = random_outcomes(300, 7)
    fires = torch.where(outcomes.coin < 0.5, outcomes.score_perturbed > 0, outcomes.score_clean > 0)
    rectified = torch.where(
        outcomes.coin < 0.5, outcomes.rectified_perturbed, outcomes.rectified_clean
    )
    given_to = torch.where(outcomes.coin < 0.5, outcomes.perturbed, outcomes.clean)
    same = Streamed(torch.where(fires, rectified, given_to), torch.zeros(300, dtype=torch.int64))
    numbers = with_stream(summarise(outcomes, A, 0), outcomes, same, A, 0)
    assert numbers.stream_rate == pytest.approx(numbers.defense_rate)
    assert numbers.ci95["stream_rate"] == pytest.approx(numbers.ci95["defense_rate"])
    assert numbers.stream_rate_16 is None
    assert numbers.ci95["stream_rate_16"] is None


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
