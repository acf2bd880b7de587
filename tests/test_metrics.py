"""The metrics against a brute-force reading of section 5."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.sampling import draw_pairs
from uap_lightning.results.metrics import WITH_INTERVAL, Outcomes, summarise
from uap_lightning.results.protocols import Protocol
from uap_lightning.training.outcomes import DefenseMetrics

A, B = Protocol(False, 0.5), Protocol(True, 0.5)


def random_outcomes(count, seed, classes=3):
    g = torch.Generator().manual_seed(seed)

    def classes_of():
        return torch.randint(classes, (count,), generator=g)

    return Outcomes(
        photograph=torch.randint(max(1, count // 3), (count,), generator=g),
        label=classes_of(),
        coin=torch.rand(count, generator=g),
        clean=classes_of(),
        perturbed=classes_of(),
        rectified_clean=classes_of(),
        rectified_perturbed=classes_of(),
        score_clean=torch.randn(count, generator=g),
        score_perturbed=torch.randn(count, generator=g),
    )


def brute_force(o, correct_only, share):
    """One image at a time, in the words of the paper."""
    keep = [i for i in range(len(o.label)) if not correct_only or o.clean[i] == o.label[i]]

    def acc(answers):
        return sum(int(answers[k] == o.label[i]) for k, i in enumerate(keep)) / len(keep)

    clean, perturbed, rectified, mixed, plain, star, detected = [], [], [], [], [], [], []
    for i in keep:
        is_perturbed = float(o.coin[i]) < share
        clean.append(o.clean[i])
        perturbed.append(o.perturbed[i])
        rectified.append(o.rectified_perturbed[i])
        mixed.append(o.rectified_perturbed[i] if is_perturbed else o.rectified_clean[i])
        plain.append(o.perturbed[i] if is_perturbed else o.clean[i])
        fires = float(o.score_perturbed[i] if is_perturbed else o.score_clean[i]) > 0
        star.append(mixed[-1] if fires else plain[-1])
        detected.append(fires == is_perturbed)

    def percent(value, whole):
        return 100 * value / whole if whole else None

    return {
        "prn_gain": percent(acc(rectified) - acc(perturbed), acc(rectified)),
        "prn_restoration": percent(acc(mixed), acc(clean)),
        "detection_rate": sum(detected) / len(keep) * 100,
        "defense_rate": percent(acc(star), acc(clean)),
        "undefended_rate": percent(acc(plain), acc(clean)),
        "fooling_ratio": sum(int(o.perturbed[i] != o.clean[i]) for i in keep) / len(keep) * 100,
    }


@settings(max_examples=40, deadline=None)
@given(st.integers(30, 90), st.integers(0, 10_000), st.booleans(), st.sampled_from([0.3, 0.5]))
@example(30, 275, True, 0.3)  # no rectified image is right
def test_rows_equal_the_brute_force(count, seed, correct_only, share):
    outcomes = random_outcomes(count, seed)
    row = summarise(outcomes, Protocol(correct_only, share), 0, resamples=50)
    for name, value in brute_force(outcomes, correct_only, share).items():
        assert row[name] == (value if value is None else pytest.approx(value, abs=1e-9)), name


def test_a_perfect_defence_scores_one_hundred():
    n = 40
    label = torch.arange(n) % 4
    outcomes = Outcomes(
        photograph=torch.arange(n) // 4,
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
            assert row[name] == 100
            assert row["ci95"][name] == [100, 100]
        assert row["undefended_rate"] == pytest.approx(100 * (1 - row["n_perturbed"] / n))
        assert row["n_photographs"] == 10


def test_the_interval_is_that_of_photographs_not_crops():
    """Crops that agree within a photograph: the interval is that of few photographs."""
    photographs, crops = 20, 30
    right = torch.rand(photographs, generator=torch.Generator().manual_seed(3)) < 0.7
    label = torch.zeros(photographs * crops, dtype=torch.long)
    guess = (~right).long().repeat_interleave(crops)
    zeros = torch.zeros(len(label))
    outcomes = Outcomes(
        photograph=torch.arange(photographs).repeat_interleave(crops),
        label=label,
        coin=zeros + 0.9,
        clean=label,
        perturbed=guess,
        rectified_clean=guess,
        rectified_perturbed=guess,
        score_clean=zeros + 1,
        score_perturbed=zeros + 1,
    )
    low, high = summarise(outcomes, A, 0)["ci95"]["defense_rate"]
    share = float(right.float().mean())
    expected = 2 * 1.96 * 100 * math.sqrt(share * (1 - share) / photographs)
    assert high - low == pytest.approx(expected, rel=0.25)


def test_nothing_right_is_no_number():
    outcomes = random_outcomes(30, 1)
    wrong = Outcomes(**{**vars(outcomes), "label": torch.full((30,), 9)})
    row = summarise(wrong, A, 0, resamples=20)
    assert row["defense_rate"] is None
    assert row["prn_gain"] is None
    assert row["ci95"]["defense_rate"] is None
    with pytest.raises(UapError, match="protocol b counts"):
        summarise(wrong, B, 0)


def test_batches_add_up():
    outcomes = random_outcomes(30, 2)
    metric = DefenseMetrics()
    for part in (torch.arange(30) < 11, torch.arange(30) >= 11):
        metric.update(outcomes.where(part))
    together = Outcomes(**metric.compute())
    for name, value in vars(outcomes).items():
        assert torch.equal(getattr(together, name), value)
    assert set(summarise(together, A, 0, resamples=10)["ci95"]) == set(WITH_INTERVAL)


def test_the_draw_depends_on_the_seed_only():
    rho = torch.randn(3, 3, 4, 4)
    first, again, other = (draw_pairs(rho, 500, seed) for seed in (0, 0, 1))
    assert torch.equal(first.coin, again.coin)
    assert torch.equal(first.perturbation, again.perturbation)
    assert not torch.equal(first.coin, other.coin)
    assert set(first.perturbation.tolist()) == {0, 1, 2}
    assert 0.4 < float((first.coin < 0.5).float().mean()) < 0.6


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_leaves_one_kind_is_refused(share):
    with pytest.raises(UapError, match="perturbed_share is"):
        Protocol(False, share)
