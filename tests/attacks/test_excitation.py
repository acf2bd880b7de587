"""How strongly layers are excited, against their values taken one by one."""

import math

import pytest
import torch

from tests.tiny import convolutional, photographs
from uap_lightning.attacks.excitation import positive_ratio, received_activations, received_length


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


def by_hand(network, images):
    """What its two convolutions and its linear layer return."""
    given = (images - 127.5) / 127.5
    return [network.model[:end](given).double() for end in (1, 4, 9)]


@pytest.mark.parametrize(("depth", "layers"), [(0.3, 1), (0.7, 2), (1.0, 3)])
def test_the_ratio_is_of_positive_to_negative_values_of_the_first_layers(depth, layers):
    network, images = convolutional(), photographs(12).images.float()[:2]
    found = positive_ratio(network, images, depth)
    for image in range(2):
        expected = 0.0
        for values in by_hand(network, images)[:layers]:
            numbers = values[image].flatten().tolist()
            above = math.sqrt(sum(v * v for v in numbers if v > 0))
            below = math.sqrt(sum(v * v for v in numbers if v < 0))
            expected += math.log(above / below)
        assert float(found[image]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("depth", "layers"), [(0.5, 1), (1.0, 2)])
def test_the_length_is_of_what_all_layers_but_the_first_receive(depth, layers):
    network, images = convolutional(), photographs(12).images.float()[:2]
    given = (images - 127.5) / 127.5
    received = [network.model[:3](given), network.model[:8](given)][:layers]
    found = received_length(network, images, depth)
    for image in range(2):
        expected = sum(
            0.5 * math.log(sum(v * v for v in values[image].double().flatten().tolist()))
            for values in received
        )
        assert float(found[image]) == pytest.approx(expected, rel=1e-3)
