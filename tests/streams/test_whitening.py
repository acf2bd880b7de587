"""Whitened residuals: by other routes, and what two of them tell."""

import math

import pytest
import torch
from torch.nn import functional

from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.streams.matching import scores, templates
from uap_lightning.streams.whitening import FLOOR, Whitener, opponent


@pytest.fixture(scope="module")
def whitener():
    return Whitener(64).fit(scenes(90, seed=1))


def signs(eps=10.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return eps * torch.randn(3, 64, 64, generator=generator).sign()


def pairs(found):
    return found[torch.triu(torch.ones_like(found, dtype=torch.bool), 1)]


def test_the_colours_are_a_rotation():
    colours = opponent().double()
    torch.testing.assert_close(colours @ colours.T, torch.eye(3, dtype=torch.float64))
    # Grey is the first alone.
    torch.testing.assert_close(
        colours @ torch.ones(3, dtype=torch.float64),
        torch.tensor([3**0.5, 0, 0], dtype=torch.float64),
        atol=1e-6,
        rtol=0,
    )


def test_a_residual_is_what_convolutions_and_a_direct_transform_give(whitener):
    images = scenes(3, seed=5)
    colours = torch.einsum("dc,nchw->ndhw", opponent().double(), images.double())
    taps = torch.tensor([1.0, 4, 6, 4, 1], dtype=torch.float64) / 16
    kernel = taps.outer(taps).expand(3, 1, 5, 5)
    blurred = functional.conv2d(functional.pad(colours, (2,) * 4, mode="reflect"), kernel, groups=3)
    high = colours - blurred
    local = functional.avg_pool2d(functional.pad(high**2, (3,) * 4, mode="reflect"), 7, 1).sqrt()
    spectrum = torch.fft.fft2(high / (local + FLOOR))
    # The whole transform is as the half that is kept, mirrored.
    power = torch.ones(3, 64, 64, dtype=torch.float64)
    power[..., :33] = whitener.power
    rows = (-torch.arange(64)) % 64
    power[..., 33:] = whitener.power[:, rows][..., 1:32].flip(-1)
    expected = torch.fft.ifft2(spectrum / power).real.flatten(1)
    length = expected.norm(dim=1, keepdim=True).clamp_min(float(whitener.length))
    torch.testing.assert_close(whitener(images).double(), expected / length, rtol=1e-3, atol=1e-5)


def test_residuals_of_photographs_are_white(whitener):
    residuals = whitener(scenes(60, seed=2)).view(-1, 3, 64, 64)
    power = torch.fft.rfft2(residuals).abs().square().mean(0)[:, 1:, 1:-1]
    # Over rings of frequencies: single ones are of too few images.
    bands = functional.avg_pool2d(power[None], (9, 8))[0]
    assert float(bands.max() / bands.min()) < 4
    plain = functional.avg_pool2d(
        torch.fft.rfft2(scenes(60, seed=2).float()).abs().square().mean(0)[None, :, 1:, 1:-1],
        (9, 8),
    )[0]
    assert float(plain.max() / plain.min()) > 100


def test_two_images_with_one_pattern_stand_out_and_clean_ones_do_not(whitener):
    images, rho = scenes(40, seed=3), signs()
    attacked = (images.float() + rho).round().clamp(0, 255)
    clean, pair = whitener(images), whitener(attacked)
    null, found = pairs(scores(clean, clean)), pairs(scores(pair, pair))
    assert float(null.max()) < whitener.null.threshold(1e-6)
    assert float(found.min()) > 2 * whitener.null.threshold(1e-6)
    # Two different patterns are no pair.
    other = whitener((images.float() + signs(seed=1)).round().clamp(0, 255))
    assert float(pairs(scores(pair, other)).abs().max()) < whitener.null.threshold(1e-6)
    # A template finds each image that carries its pattern.
    template = templates(whitener, rho[None])
    assert float(scores(pair, template).min()) > 2 * float(scores(clean, template).abs().max())


def test_a_nearly_flat_image_scores_less_than_its_direction_would(whitener):
    flat = torch.full((1, 3, 64, 64), 127.0)
    flat[..., 30:34, 30:34] += 2.0
    residual = whitener(flat)
    assert float(residual.norm()) < 0.5
    assert float(whitener(scenes(30, seed=4)).norm(dim=1).median()) == pytest.approx(1, abs=0.05)


def test_the_null_of_attacked_images_is_that_of_clean_ones_when_they_are_out_of_step():
    images = scenes(120, seed=6)
    attacked = (images.float() + signs()).round().clamp(0, 255).to(torch.uint8)
    shifted = Whitener(64).fit(attacked, shifted=True).null
    aligned = Whitener(64).fit(attacked).null
    assert shifted.threshold(1e-4) < 8 < aligned.mean


def test_template_of_nothing_is_nothing(whitener):
    assert float(templates(whitener, torch.zeros(1, 3, 64, 64)).abs().max()) == 0


def test_scores_are_inner_products_by_hand():
    some, others = torch.randn(3, 50).double(), torch.randn(4, 50).double()
    expected = [[float((a * b).sum()) * math.sqrt(50) for b in others] for a in some]
    torch.testing.assert_close(scores(some, others), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(11, 3, 64, 64, dtype=torch.uint8), "there are 11 images"),
        (torch.zeros(20, 3, 64, 65, dtype=torch.uint8), "shape"),
    ],
)
def test_what_cannot_be_fitted_is_said(images, said):
    with pytest.raises(UapError, match=said):
        Whitener(64).fit(images)
    with pytest.raises(UapError, match="expected 64 to"):
        Whitener(63)
