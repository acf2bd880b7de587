"""Every family of attack: its ball, its seed, and what makes it the family it is."""

import math
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.tiny import TensorImages
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.data_free import data_free, received_activations
from uap_lightning.attacks.deepfool_uap import deepfool_uap
from uap_lightning.attacks.deepfool_uap_batched import deepfool_uap_batched
from uap_lightning.attacks.fooling import clean_predictions, fooling_ratio
from uap_lightning.attacks.generator import generator, residual_generator
from uap_lightning.attacks.random_signs import random_signs
from uap_lightning.attacks.singular_vectors import find_layer, layer_output, singular_vectors
from uap_lightning.attacks.targeted_uap import targeted_uap
from uap_lightning.core.errors import UapError
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


def convolutional(classes=6):
    """A small convolutional network with random weights, a non-linearity and a linear head."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    )
    return TargetNetwork(model, "convolutional", [127.5] * 3, [127.5] * 3)


def photographs(size, count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return TensorImages(
        torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    )


FAMILIES = {
    "deepfool_uap": partial(deepfool_uap, max_passes=1, goal=1.0, candidates=4),
    "deepfool_uap_batched": partial(
        deepfool_uap_batched, max_passes=1, goal=1.0, candidates=4, batch_size=4
    ),
    "cosine_uap": partial(cosine_uap, steps=3, batch_size=2),
    "targeted_uap": partial(targeted_uap, steps=3, batch_size=2),
    "data_free": partial(data_free, steps=3, batch_size=2),
    "singular_vectors": partial(singular_vectors, layer="3", batch_size=3, iterations=2),
    "generator": partial(generator, steps=2, batch_size=2, width=2),
    "random_signs": random_signs,
}


@pytest.mark.parametrize("family", FAMILIES)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    p=st.sampled_from([2.0, math.inf]),
    eps=st.floats(0.01, 200.0),
    size=st.integers(8, 14),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_family_stays_in_its_ball_and_repeats_under_its_seed(family, p, eps, size, seed):
    network, images, norm = convolutional(), photographs(size), Ball(p, eps)
    labels = clean_predictions(network, images)
    crafted = FAMILIES[family](network, images, labels, norm, seed)
    assert crafted.rho.shape == (3, size, size)
    assert crafted.rho.dtype == torch.float32
    # in double precision, by the definition of the norm
    values = crafted.rho.double().flatten()
    length = values.abs().max() if p == math.inf else values.square().sum().sqrt()
    assert float(length) <= eps * (1 + 1e-5)
    assert torch.equal(FAMILIES[family](network, images, labels, norm, seed).rho, crafted.rho)


@settings(max_examples=50, deadline=None)
@given(
    p=st.sampled_from([2.0, math.inf]),
    eps=st.floats(1e-3, 300.0),
    size=st.integers(1, 12),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 1000),
)
def test_the_projection_is_that_of_double_precision(p, eps, size, scale, seed):
    vector = torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed)) * scale
    exact = vector.double()
    if p == 2:
        length = float(exact.square().sum().sqrt())
        exact = exact * min(1.0, eps / length) if length else exact
    else:
        exact = torch.minimum(torch.maximum(exact, torch.tensor(-eps)), torch.tensor(eps))
    projected = Ball(p, eps).project(vector)
    torch.testing.assert_close(projected.double(), exact, rtol=1e-5, atol=1e-7)


def test_random_signs_are_signs_and_differ_by_seed(network, images, labels):
    for norm in (Ball(math.inf, 10.0), Ball(2.0, 280.0)):
        rho = random_signs(network, images, labels, norm, 0).rho
        assert float(norm.size(rho)) == pytest.approx(norm.eps, rel=1e-5)
        assert len(rho.abs().unique()) == 1
        assert 0.3 < float((rho > 0).float().mean()) < 0.7
        assert not torch.equal(rho, random_signs(network, images, labels, norm, 1).rho)


def test_a_targeted_perturbation_makes_the_network_say_its_class(network, images, labels, linf):
    for target in (2, 5):
        crafted = targeted_uap(network, images, labels, linf, 0, target=target, steps=60)
        assert crafted.drawn == {"target": target}
        said = network.predict((images.images.float() + crafted.rho).clamp(0, 255))
        before = float((labels == target).float().mean())
        assert float((said == target).float().mean()) > max(0.7, before + 0.4)
    with pytest.raises(UapError, match=r"attack\.target is 8: expected .* 0 to 7"):
        targeted_uap(network, images, labels, linf, 0, target=8)


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
        assert trained > untrained + 0.3


def test_the_generator_keeps_sizes_and_tanhs_range():
    noise = torch.rand(1, 3, 13, 18)
    assert residual_generator(2)(noise).shape == (1, 3, 16, 20)
    assert float(residual_generator(2)(noise).abs().max()) <= 1


@pytest.mark.parametrize("settings", [{"learning_rate": 0.0}, {"width": 0}, {"steps": 0}])
def test_a_generator_refuses_settings_out_of_range(network, images, labels, linf, settings):
    with pytest.raises(UapError, match="expected"):
        generator(network, images, labels, linf, 0, **settings)


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


def test_the_singular_vector_of_a_linear_layer_is_the_one_of_linear_algebra():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 7, bias=False))
    network = TargetNetwork(model, "linear", [0.0] * 3, [1.0] * 3)
    images = photographs(4)
    labels = clean_predictions(network, images)
    chosen = {"layer": "1", "batch_size": 2, "iterations": 60}
    crafted = singular_vectors(network, images, labels, Ball(2.0, 1.0), 0, q=2.0, **chosen)
    _, _, right = torch.linalg.svd(model[1].weight.double())
    assert abs(float(crafted.rho.flatten().double() @ right[0])) == pytest.approx(1, abs=1e-3)
    # the power method climbs: no random point of the l_inf sphere changes the layer more
    jagged = singular_vectors(network, images, labels, Ball(math.inf, 1.0), 0, **chosen)
    reached = float((model[1].weight @ jagged.rho.flatten()).norm(p=10))
    signs = torch.randn(2000, 48, generator=torch.Generator().manual_seed(1)).sign()
    assert reached > float((signs @ model[1].weight.T).norm(p=10, dim=1).max()) * 0.95


def test_a_singular_vector_is_spread_over_the_image():
    network, images = convolutional(), photographs(24)
    labels = clean_predictions(network, images)

    def crafted(norm, **setting):
        return singular_vectors(network, images, labels, norm, 0, layer="3", **setting).rho

    def peak(rho):
        """The share of rho's energy that its strongest pixel holds."""
        return float(rho.square().sum(0).max() / rho.square().sum())

    l2, linf = Ball(2.0, 280.0), Ball(math.inf, 10.0)
    assert peak(crafted(l2)) < 0.5 * peak(crafted(l2, q=10.0))
    # In the l_inf ball every pixel is at the bound, and q is the paper's.
    assert torch.equal(crafted(linf), crafted(linf, q=10.0))
    assert not torch.equal(crafted(linf), crafted(linf, q=1.5))


def test_the_sign_of_a_singular_vector_is_the_one_that_fools_more():
    network, images = convolutional(), photographs(12, count=40)
    labels = clean_predictions(network, images)
    differences = []
    for seed in range(6):
        norm = Ball(math.inf, 120.0)
        rho = singular_vectors(network, images, labels, norm, seed, layer="3", batch_size=4).rho
        kept, other = (fooling_ratio(network, images, labels, sign * rho) for sign in (1, -1))
        differences.append(kept - other)
    assert min(differences) >= 0
    assert max(differences) > 0


def test_a_layer_is_found_by_name_or_by_its_place():
    network = convolutional()
    assert find_layer(network, "3") is network.model[3]
    assert find_layer(network, None) is network.model[0]
    images = photographs(12).images.float()
    reached = layer_output(network, network.model[1])(images)
    torch.testing.assert_close(reached, network.model[:2]((images - 127.5) / 127.5))
    with pytest.raises(UapError, match=r"attack\.layer is conv9, which is no module"):
        find_layer(network, "conv9")
    with pytest.raises(UapError, match=r"names a Conv2d that the network convolutional does not"):
        layer_output(network, nn.Conv2d(3, 3, 1))(images)


def test_singular_vectors_say_what_they_cannot_use(network, images, labels, linf):
    with pytest.raises(UapError, match=r"set attack\.layer"):
        singular_vectors(network, images, labels, linf, 0)
    for setting in ({"q": 1.0}, {"batch_size": 0}, {"iterations": 0}):
        with pytest.raises(UapError, match="attack has q"):
            singular_vectors(network, images, labels, linf, 0, layer="", **setting)
