"""The UAP that hides from the guard with memory: nothing paid is cosine_uap, and paying hides."""

import pytest
import torch

from tests.tiny import scenes
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.hidden_uap import hidden_uap
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import TensorImages
from uap_lightning.networks.tiny import tiny
from uap_lightning.perturbations.ball import Ball
from uap_lightning.streams.matching import scores
from uap_lightning.streams.whitening import Whitener

NORM = Ball(float("inf"), 10.0)


@pytest.fixture(scope="module")
def images():
    return TensorImages(scenes(40, seed=1))


def crafted(attack, images, **settings):
    network = tiny()
    labels = network.predict(images.images)
    return attack(network, images, labels, NORM, 0, batch_size=4, **settings).rho


def test_hiding_at_no_price_is_the_plain_one(images):
    plain = crafted(cosine_uap, images, steps=5)
    assert torch.equal(crafted(hidden_uap, images, steps=5, weight=0.0), plain)


def test_a_pair_of_images_tells_less_of_it(images):
    """Measured by another whitener, on images that the attacker has not seen."""
    other = scenes(60, seed=2)
    whitener = Whitener(64).fit(other[:40])

    def pair_score(rho):
        residuals = whitener((other[40:].float() + rho).round().clamp(0, 255))
        score = scores(residuals, residuals)
        return float(score[~torch.eye(len(score), dtype=torch.bool)].mean())

    plain = crafted(cosine_uap, images, steps=30)
    hidden = crafted(hidden_uap, images, steps=30, weight=10.0)
    assert float(hidden.abs().max()) > 5  # it is not hidden by being nothing
    assert pair_score(hidden) < 0.6 * pair_score(plain)


@pytest.mark.parametrize("setting", [{"weight": -1.0}, {"batch_size": 1}])
def test_settings_out_of_range_are_named(images, setting):
    network = tiny()
    labels = network.predict(images.images)
    with pytest.raises(UapError, match=next(iter(setting))):
        hidden_uap(network, images, labels, NORM, 0, **setting)
