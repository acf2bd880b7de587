"""The metrics against a brute-force reading of section 5."""

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.results.outcomes import A, B, brute_force, lists, random_outcomes
from uap_lightning.core.errors import UapError
from uap_lightning.results.metrics import WITH_INTERVAL, Outcomes, Streamed, summarise, with_stream
from uap_lightning.results.protocols import Protocol

NOTHING_RIGHT = (
    "^protocol b counts the test images that the network classifies correctly when clean, and "
    "there is none: check that the labels are the network's classes, or set protocol=a.$"
)


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
