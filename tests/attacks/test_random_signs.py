"""Random signs, the floor."""

import math

import pytest
import torch

from uap_lightning.attacks.random_signs import random_signs
from uap_lightning.perturbations.ball import Ball


def test_random_signs_are_signs_and_differ_by_seed(network, images, labels):
    for norm in (Ball(math.inf, 10.0), Ball(2.0, 280.0)):
        rho = random_signs(network, images, labels, norm, 0).rho
        assert float(norm.size(rho)) == pytest.approx(norm.eps, rel=1e-5)
        assert len(rho.abs().unique()) == 1
        assert 0.3 < float((rho > 0).float().mean()) < 0.7
        assert not torch.equal(rho, random_signs(network, images, labels, norm, 1).rho)
