"""The gradient UAP."""

import math

import pytest
import torch

from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball

NORMS = [Ball(math.inf, 10.0), Ball(2.0, 280.0)]


@pytest.mark.parametrize("norm", NORMS, ids=["linf", "l2"])
def test_cosine_uap_fools_within_its_ball(network, images, labels, norm):
    crafted = cosine_uap(network, images, labels, norm, 0, steps=40, batch_size=16)
    assert float(norm.size(crafted.rho)) <= norm.eps * (1 + 1e-5)
    noise = norm.project(torch.randn(3, 32, 32).sign() * norm.eps)
    floor = fooling_ratio(network, images, labels, noise)
    assert fooling_ratio(network, images, labels, crafted.rho) > max(0.5, floor + 0.2)
    again = cosine_uap(network, images, labels, norm, 0, steps=40, batch_size=16)
    assert torch.equal(crafted.rho, again.rho)
    other = cosine_uap(network, images, labels, norm, 1, steps=40, batch_size=16)
    assert not torch.equal(crafted.rho, other.rho)


@pytest.mark.parametrize(
    "settings", [{"steps": 0}, {"batch_size": 0}, {"step_size": 0.0}, {"momentum": 1.0}]
)
def test_cosine_uap_refuses_settings_out_of_range(network, images, labels, linf, settings):
    with pytest.raises(UapError, match="attack has"):
        cosine_uap(network, images, labels, linf, 0, **settings)
