"""The robust UAP fools through what it expects, better than the plain one does."""

import pytest
import torch

from tests.tiny import scenes
from uap_lightning.attacks import robust_uap as module
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.fooling import clean_predictions
from uap_lightning.attacks.robust_uap import robust_uap
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import TensorImages
from uap_lightning.networks.tiny import tiny
from uap_lightning.perturbations.ball import Ball
from uap_lightning.rectifiers import Gaussian

NORM = Ball(float("inf"), 8.0)


def agreement(rho, images):
    """Mean cosine of the network's answers on clean and on blurred perturbed images."""
    network, blur = tiny(), Gaussian(1.2, radius=5)
    given = images.images.float()
    with torch.no_grad():
        found = network(blur((given + rho).clamp(0, 255)))
        return float(torch.cosine_similarity(found, network(blur(given))).mean())


def test_it_survives_blur_better_than_the_plain_one():
    images, unseen = TensorImages(scenes(40, 32, seed=1)), TensorImages(scenes(40, 32, seed=2))
    labels = clean_predictions(tiny(), images)
    given = (tiny(), images, labels, NORM, 0)
    plain = cosine_uap(*given, steps=60, batch_size=8).rho
    robust = robust_uap(*given, steps=60, batch_size=8).rho
    assert float(robust.abs().max()) <= 8 + 1e-5
    assert agreement(robust, unseen) < agreement(plain, unseen)
    again = robust_uap(*given, steps=60, batch_size=8).rho
    assert torch.equal(again, robust)


def test_every_transformation_is_met(monkeypatch):
    met = {"Gaussian": [], "JPEG": []}

    def noting(name):
        made = getattr(module, name)

        def build(strength, **settings):
            met[name].append(strength)
            return made(strength, **settings)

        return build

    for name in met:
        monkeypatch.setattr(module, name, noting(name))
    images = TensorImages(scenes(8, 32, seed=1))
    robust_uap(tiny(), images, torch.zeros(8).long(), NORM, 0, steps=80, batch_size=2)
    # A quarter of the steps each, within four deviations of a binomial.
    assert all(5 <= len(strengths) <= 35 for strengths in met.values())
    assert 1.0 < max(met["Gaussian"]) <= 1.5
    assert 50 <= min(met["JPEG"]) < 65
    assert 80 < max(met["JPEG"]) <= 95


@pytest.mark.parametrize("setting", [{"shift": -1}, {"blur": 0.0}, {"quality": 0}, {"blur": 9.0}])
def test_settings_out_of_range_are_named(setting):
    images = TensorImages(scenes(4, 32, seed=1))
    with pytest.raises(UapError, match=next(iter(setting))):
        robust_uap(tiny(), images, torch.zeros(4).long(), NORM, 0, **setting)
