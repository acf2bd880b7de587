"""Data-free perturbations."""

import math

import pytest
import torch

from tests.tiny import convolutional, photographs
from uap_lightning.attacks.data_free import data_free, received_activations
from uap_lightning.attacks.random_signs import random_signs
from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball


def test_received_activations_are_what_the_layers_are_given():
    network, images = convolutional(), photographs(12).images.float()
    with received_activations(network) as activations:
        network(images)
    by_hand = network.model[:3]((images - 127.5) / 127.5)
    torch.testing.assert_close(activations[0], by_hand)
    torch.testing.assert_close(activations[1], network.model[3:8](by_hand))
    assert len(activations) == 2
    network(images)
    assert len(activations) == 2  # the hooks are gone


@pytest.mark.parametrize("prior", ["none", "range"])
def test_a_data_free_perturbation_excites_the_layers(prior):
    network, images = convolutional(), photographs(12)
    norm = Ball(math.inf, 10.0)
    unused = torch.zeros(8)
    crafted = data_free(network, images, unused, norm, 0, steps=30, batch_size=2, prior=prior)
    noise = random_signs(network, images, unused, norm, 0).rho

    def excitement(rho):
        with received_activations(network) as activations:
            network(torch.full((1, 3, 12, 12), 115.0) + rho)
        return sum(float(a.norm().log()) for a in activations)

    assert excitement(crafted.rho) > excitement(noise)
    other = data_free(
        network, photographs(12, seed=9), unused, norm, 0, steps=30, batch_size=2, prior=prior
    )
    assert torch.equal(crafted.rho, other.rho)  # no photograph was looked at


def test_data_free_says_what_it_cannot_use(network, images, labels, linf):
    with pytest.raises(UapError, match="the network tiny has 0"):
        data_free(network, images, labels, linf, 0)
    with pytest.raises(UapError, match="attack has prior photos"):
        data_free(network, images, labels, linf, 0, prior="photos")
