"""The learned detector: what it learns, keeps, and refuses."""

import pytest
import torch

from uap_lightning.core.errors import UapError
from uap_lightning.detectors import ConvDetector


def differences(count, seed, size=24):
    """Edges alone, and edges with a weak checkerboard of random phase: the same mean energy."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.zeros(count, 3, size, size)
    perturbed = torch.arange(count) % 2 == 0
    board = (-1.0) ** (torch.arange(size)[:, None] + torch.arange(size))
    for number in range(count):
        edge = int(torch.randint(2, size - 2, (), generator=generator))
        made[number, :, :, edge] = 14.0
        if perturbed[number]:
            sign = 2 * int(torch.randint(0, 2, (), generator=generator)) - 1
            made[number] = made[number] / 2 + 2.5 * sign * board
    energy = made.square().mean((1, 2, 3), keepdim=True).sqrt()
    return 3 * made / energy, perturbed


def test_it_learns_what_the_energy_does_not_tell():
    x, perturbed = differences(200, 0)
    unseen, kind = differences(100, 1)
    detector = ConvDetector(width=4, epochs=10)
    detector.fit(detector.features(x), perturbed)
    assert ((detector(unseen) > 0) == kind).float().mean() > 0.95
    assert not any(parameter.requires_grad for parameter in detector.parameters())


def test_it_fits_the_same_each_time_and_survives_its_state_dict():
    x, perturbed = differences(40, 2)
    scores = []
    for start in (1, 2):
        torch.manual_seed(start)
        detector = ConvDetector(width=2, epochs=2)
        detector.fit(detector.features(x), perturbed)
        scores.append(detector(x))
    assert torch.equal(*scores)
    other = ConvDetector(width=2, epochs=2)
    other.load_state_dict(detector.state_dict())
    assert torch.equal(other(x), scores[0])


def test_with_stride_2_it_takes_the_means_over_every_second_place_of_the_same_maps():
    torch.manual_seed(0)
    every, second = ConvDetector(width=2), ConvDetector(width=2, stride=2)
    second.load_state_dict(every.state_dict())
    maps = []
    every.third.register_forward_hook(lambda _, inputs, given: maps.append(given))
    x, _ = differences(6, 3)
    every(x)
    seen = maps[0][:, :, ::2, ::2]
    pooled = torch.cat([seen.mean((2, 3)), (seen.square().mean((2, 3)) + 1e-6).sqrt()], 1)
    expected = pooled @ every.last.weight[0] + every.last.bias
    torch.testing.assert_close(second(x), expected, rtol=1e-4, atol=1e-4)


def test_its_threshold_moves_all_scores():
    x, _ = differences(6, 3)
    detector = ConvDetector(width=2)
    before = detector(x)
    detector.raise_threshold(1.5)
    torch.testing.assert_close(detector(x), before - 1.5)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"width": 0}, "width"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"stride": 3}, "stride"),
        ({"stride": True}, "stride"),
    ],
)
def test_settings_out_of_range_are_refused(settings, key):
    with pytest.raises(UapError, match=key):
        ConvDetector(**settings)


def test_one_kind_and_values_that_are_not_finite_are_refused():
    x, _ = differences(4, 4)
    detector = ConvDetector(width=2)
    features = detector.features(x)
    with pytest.raises(UapError, match="both clean and perturbed"):
        detector.fit(features, torch.ones(4, dtype=torch.bool))
    features[0, 0] = float("nan")
    with pytest.raises(UapError, match="its training diverged"):
        detector.fit(features, torch.arange(4) % 2 == 0)
