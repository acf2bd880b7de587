"""Generated perturbations."""

import math

import pytest
import torch

from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.attacks.generator import generator, residual_generator
from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball


def test_a_generated_perturbation_fools_more_with_training(network, images, labels):
    for norm in (Ball(math.inf, 10.0), Ball(2.0, 280.0)):
        untrained, trained = (
            fooling_ratio(
                network,
                images,
                labels,
                generator(network, images, labels, norm, 0, steps=steps, width=4).rho,
            )
            for steps in (1, 60)
        )
        assert trained > untrained + 0.25


def test_the_generator_keeps_sizes_and_tanhs_range():
    noise = torch.rand(1, 3, 13, 18)
    assert residual_generator(2)(noise).shape == (1, 3, 16, 20)
    assert float(residual_generator(2)(noise).abs().max()) <= 1


@pytest.mark.parametrize("settings", [{"learning_rate": 0.0}, {"width": 0}, {"steps": 0}])
def test_a_generator_refuses_settings_out_of_range(network, images, labels, linf, settings):
    with pytest.raises(UapError, match="expected"):
        generator(network, images, labels, linf, 0, **settings)
