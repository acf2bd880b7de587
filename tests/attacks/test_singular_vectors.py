"""Singular vectors, against linear algebra and brute force."""

import copy
import math

import pytest
import torch
from torch import nn

from tests.tiny import convolutional, photographs
from uap_lightning.attacks.fooling import clean_predictions, fooling_ratio
from uap_lightning.attacks.singular_vectors import find_layer, layer_output, singular_vectors
from uap_lightning.core.errors import UapError
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


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


def test_no_sign_vector_changes_the_layer_more():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4, 7, bias=False))
    network = TargetNetwork(model, "linear", [0.0] * 3, [1.0] * 3)
    images = photographs(2)
    labels = clean_predictions(network, images)
    # A convex function over the l_inf ball is largest at a corner: try all 4096.
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 12)
    changes = (corners @ model[1].weight.T).norm(p=10, dim=1)
    reached = []
    for seed in range(4):
        rho = singular_vectors(
            *(network, images, labels, Ball(math.inf, 1.0), seed), layer="1", iterations=60
        ).rho
        reached.append(float((model[1].weight @ rho.flatten()).norm(p=10)))
    assert max(reached) == pytest.approx(float(changes.max()), rel=1e-4)
    # and each is a local maximum, far above what a random corner reaches
    assert min(reached) > float(changes.quantile(0.95))


def test_every_image_of_the_batch_counts():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 6))
    network = TargetNetwork(model, "two", [127.5] * 3, [127.5] * 3)
    images = photographs(4, count=40)
    crafted = singular_vectors(
        *(network, images, clean_predictions(network, images), Ball(2.0, 1.0), 5),
        layer="3",
        q=2.0,
        batch_size=24,
        iterations=400,
    )
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5)).tolist()

    def leading(numbers):
        """The right singular vector of the stacked Jacobians, by linear algebra."""
        inputs = images.take(numbers).double()
        double = copy.deepcopy(model).double()
        jacobians = [
            torch.autograd.functional.jacobian(double, (image[None] - 127.5) / 127.5)
            for image in inputs
        ]
        stacked = torch.cat([jacobian.reshape(6, 48) for jacobian in jacobians])
        return torch.linalg.svd(stacked)[2][0]

    def likeness(numbers):
        return abs(float(crafted.rho.flatten().double() @ leading(numbers)))

    assert likeness(order[:24]) == pytest.approx(1, abs=1e-4)
    assert likeness(order[:16]) < 0.999
