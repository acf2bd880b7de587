"""Every family of attack: its ball and its seed."""

import math
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.tiny import convolutional, photographs
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.data_free import data_free
from uap_lightning.attacks.deepfool_uap import deepfool_uap
from uap_lightning.attacks.deepfool_uap_batched import deepfool_uap_batched
from uap_lightning.attacks.fooling import clean_predictions
from uap_lightning.attacks.generator import generator
from uap_lightning.attacks.random_signs import random_signs
from uap_lightning.attacks.singular_vectors import singular_vectors
from uap_lightning.attacks.targeted_uap import targeted_uap
from uap_lightning.core.errors import UapError
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball

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


class Broken(nn.Module):
    def forward(self, x):
        return (x.flatten(1)[:, :4] - 300).sqrt()


def test_a_gradient_that_is_not_finite_is_named(images, linf):
    network = TargetNetwork(Broken(), "broken", [0.0] * 3, [1.0] * 3)
    labels = torch.zeros(len(images), dtype=torch.long)
    with pytest.raises(UapError, match=r"step 1 \(images \d+, \d+\) is not finite on the network"):
        cosine_uap(network, images, labels, linf, 0, steps=1, batch_size=2)
    first = int(torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[0])
    labels = clean_predictions(network, images)
    said = f"image {first} are not finite at linearisation 1 of DeepFool on the network broken"
    for attack in (deepfool_uap, deepfool_uap_batched):
        with pytest.raises(UapError, match=said):
            attack(network, images, labels, linf, 0, max_passes=1, candidates=3)
