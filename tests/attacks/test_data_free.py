"""Data-free perturbations."""

import math

import pytest
import torch
from hypothesis import given as drawn_from
from hypothesis import strategies as st

from tests.tiny import convolutional, photographs
from uap_lightning.attacks import data_free as module
from uap_lightning.attacks.data_free import data_free, enlarged_part
from uap_lightning.attacks.excitation import (
    positive_ratio,
    received_activations,
    received_length,
)
from uap_lightning.attacks.random_signs import random_signs
from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball


@pytest.mark.parametrize("prior", ["natural", "none", "range", "own"])
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
    with pytest.raises(UapError, match="excitation loud"):
        data_free(network, images, labels, linf, 0, excitation="loud")
    for setting in (
        {"hardening": -1},
        {"batch_size": 0},
        {"contrast": -1.0},
        {"depth": 0.0},
        {"depth": 1.1},
    ):
        with pytest.raises(UapError, match=next(iter(setting))):
            data_free(network, images, labels, linf, 0, **setting)


@pytest.mark.parametrize("depth", [1.0, 0.5])
@pytest.mark.parametrize("ball", [(math.inf, 8.0), (2.0, 60.0)])
def test_the_first_step_raises_the_logarithms_of_the_layers_lengths(ball, depth):
    network, norm = convolutional(), Ball(*ball)
    given = (network, photographs(12), torch.zeros(8), norm, 4)
    crafted = data_free(*given, steps=1, step_size=0.5, prior="none", depth=depth)
    drawn = torch.rand((3, 12, 12), generator=torch.Generator().manual_seed(4)) * 2 - 1
    length = float(drawn.abs().max() if norm.p == math.inf else drawn.square().sum().sqrt())
    start = (0.5 * norm.eps / length * drawn).requires_grad_()
    colour = torch.tensor([123.7, 116.8, 103.9])[:, None, None]
    image = ((colour + start).clamp(0, 255)[None] - 127.5) / 127.5
    hidden = network.model[:3](image)
    last = network.model[3:8](hidden)
    product = hidden.square().sum().sqrt()
    product = product * last.square().sum().sqrt() if depth == 1 else product
    (up,) = torch.autograd.grad(product.log(), start)
    step = up.sign() if norm.p == math.inf else up / up.square().sum().sqrt()
    rho = start.detach() + 0.5 * norm.eps * step
    if norm.p == 2:
        rho = rho * min(1.0, norm.eps / float(rho.norm()))
    rho = rho.clamp(-norm.eps, norm.eps)
    torch.testing.assert_close(crafted.rho, rho, rtol=1e-3, atol=1e-3)


def test_natural_images_are_noise_around_the_mean_colour_anew_in_each_step(monkeypatch):
    network, seen = convolutional(), []
    network.register_forward_hook(lambda _, inputs, answer: seen.append(inputs[0].detach()))
    start = module.random_start
    monkeypatch.setattr(module, "random_start", lambda *given: 0 * start(*given))
    norm = Ball(math.inf, 1e-6)
    data_free(network, photographs(64), torch.zeros(8), norm, 0, steps=2, batch_size=3, contrast=7)
    images = torch.cat(seen)
    colour = torch.tensor([123.7, 116.8, 103.9])[:, None, None]
    assert images.shape == (6, 3, 64, 64)
    assert torch.allclose((images - colour).std((2, 3)), torch.full((6, 3), 7.0), rtol=1e-3)
    likeness = torch.corrcoef(images[:, 0].flatten(1))
    assert likeness.fill_diagonal_(0).abs().max() < 0.9


@pytest.mark.parametrize(
    ("excitation", "measure"), [("length", received_length), ("ratio", positive_ratio)]
)
def test_either_excitation_is_raised(excitation, measure):
    network, images, norm = convolutional(), photographs(12), Ball(math.inf, 10.0)
    given = (network, images, torch.zeros(8), norm, 0)
    crafted = data_free(*given, steps=30, prior="none", excitation=excitation)
    background = torch.tensor([123.7, 116.8, 103.9]).view(1, 3, 1, 1).expand(1, 3, 12, 12)
    noise = random_signs(*given).rho
    assert float(measure(network, background + crafted.rho, 0.7)) > float(
        measure(network, background + noise, 0.7)
    )


@drawn_from(st.integers(0, 10_000))
def test_a_part_of_the_perturbation_is_a_square_of_it_enlarged(seed):
    rho = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1))
    asked, enlarge = [], module.functional.interpolate

    def note(part, *arguments, **named):
        asked.append(part)
        return enlarge(part, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.functional, "interpolate", note)
        large = enlarged_part(rho, torch.Generator().manual_seed(seed))
    assert large.shape == (3, 32, 32)
    assert abs(float(large.mean())) < 1e-5
    assert float(large.std()) == pytest.approx(1, rel=1e-4)
    side = asked[0].shape[-1]
    assert asked[0].shape == (1, 3, side, side)
    assert 8 <= side <= 32
    places = [
        (top, left)
        for top in range(33 - side)
        for left in range(33 - side)
        if torch.equal(rho[:, top : top + side, left : left + side], asked[0][0])
    ]
    assert len(places) == 1


def test_own_images_are_parts_of_the_perturbation_as_it_is(monkeypatch):
    network, seen = convolutional(), []
    network.register_forward_hook(lambda _, inputs, answer: seen.append(inputs[0].detach()))
    asked = []

    def part(rho, generator):
        asked.append(rho.clone())
        return torch.full_like(rho, 2.0)

    monkeypatch.setattr(module, "enlarged_part", part)
    given = (network, photographs(12), torch.zeros(8), Ball(math.inf, 10.0), 0)
    data_free(*given, steps=3, prior="own", contrast=4)
    colour = torch.tensor([123.7, 116.8, 103.9])[:, None, None]
    for rho, image in zip(asked, seen, strict=True):
        torch.testing.assert_close(image[0], colour + 8 + rho)
    assert not torch.equal(asked[0], asked[1])


@pytest.mark.parametrize("ball", [Ball(math.inf, 8.0), Ball(2.0, 60.0)])
def test_hardening_finds_images_that_are_excited_less(ball):
    """Within the ball around each image, which the perturbation is then added to."""
    network, seen = convolutional(), []
    network.register_forward_hook(lambda _, inputs, answer: seen.append(inputs[0].detach()))
    given = (network, photographs(12), torch.zeros(8), ball, 0)
    data_free(*given, steps=1, prior="none", hardening=4)
    before, after = seen[0], seen[4]  # the fifth pass is the perturbation's own
    assert len(seen) == 5
    moved = ball.project((after - before)[0])
    torch.testing.assert_close((after - before)[0], moved, rtol=1e-4, atol=1e-3)
    assert float(received_length(network, after, 0.7)) < float(
        received_length(network, before, 0.7)
    )
