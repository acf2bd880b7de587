"""The prediction of pair scores against what images show that follow its model."""

import math

import pytest
import torch

from experiments import stream_theory
from experiments.stream_setting import attacked
from tests.tiny import scenes
from uap_lightning.streams.matching import scores
from uap_lightning.streams.whitening import Whitener


@pytest.fixture(scope="module")
def whitener():
    return Whitener(64).fit(scenes(120, seed=1))


def noise(strength):
    generator = torch.Generator().manual_seed(0)
    return (strength * torch.randn(3, 64, 64, generator=generator)).round()


@pytest.mark.parametrize("strength", [2.0, 5.0, 10.0])
def test_predicted_and_measured_scores_agree(whitener, strength):
    seen = stream_theory.look_at(whitener, scenes(40, seed=2))
    cosines = stream_theory.predicted_cosines(whitener, seen, noise(strength))
    upper = torch.triu(torch.ones_like(cosines, dtype=torch.bool), 1)
    predicted = math.sqrt(whitener.dimension) * float(cosines[upper].mean())
    residuals = whitener(attacked(scenes(40, seed=3), noise(strength)))
    measured = float(scores(residuals, residuals)[upper].mean())
    assert predicted == pytest.approx(measured, rel=0.15)


def test_what_is_looked_at_is_what_the_whitener_does(whitener):
    images = scenes(4, seed=4)
    seen = stream_theory.look_at(whitener, images)
    # The whitener's own residuals have this length before they are normalised.
    lengths = whitener._residuals(whitener._spectra(images)).square().sum(dim=1)
    assert torch.allclose(seen.energy.sum(dim=1), lengths, rtol=1e-4)


def test_images_until_the_first_pair_are_counted_by_hand():
    found = torch.zeros(3, 3, dtype=torch.bool)
    found[0, 2] = found[2, 0] = True
    # Of the six orders of three images, two end with the pair at the second image, four later.
    assert stream_theory.until(found, 0) == pytest.approx((2 * 2 + 4 * 3) / 6, abs=0.1)
    assert stream_theory.until(torch.zeros(3, 3, dtype=torch.bool), 0) is None
    everything = ~torch.eye(5, dtype=torch.bool)
    assert stream_theory.until(everything, 0) == 2


def test_no_pattern_has_no_score(whitener):
    seen = stream_theory.look_at(whitener, scenes(5, seed=5))
    assert not stream_theory.predicted_cosines(whitener, seen, torch.zeros(3, 64, 64)).any()
