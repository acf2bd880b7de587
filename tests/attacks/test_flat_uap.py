"""The UAP of few photographs: its crops are a resizer's, its noise has the size it says."""

import math

import pytest
import torch
from scipy.ndimage import map_coordinates

from tests.tiny import convolutional, scenes
from uap_lightning.attacks import flat_uap as module
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.flat_uap import flat_uap, random_crops
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import TensorImages
from uap_lightning.networks.tiny import tiny
from uap_lightning.perturbations.ball import Ball

LINF = Ball(math.inf, 8.0)
LABELS = torch.zeros(8).long()


def test_crops_are_square_parts_of_the_photographs_half_of_them_mirrored():
    """A picture of coordinates tells where each pixel was taken; scipy takes them there too."""
    size, count = 64, 200
    column = torch.arange(size, dtype=torch.float32).expand(size, size)
    coordinates = torch.stack([column, column.T, torch.zeros(size, size)])
    photograph = scenes(1, size, seed=3)[0].float()
    places, cropped = [
        random_crops(images.expand(count, -1, -1, -1), 0.3, torch.Generator().manual_seed(0))
        for images in (coordinates, photograph)
    ]
    across, down = places[:, 0], places[:, 1]
    inner = slice(2, -2)  # the outermost pixels may lie half a pixel beyond the last centre
    right = across.diff(dim=2)[:, inner, inner]
    below = down.diff(dim=1)[:, inner, inner]
    side = below[:, 0, 0]
    assert torch.allclose(below, side[:, None, None].expand_as(below), atol=1e-3)
    assert torch.allclose(right.abs(), side[:, None, None].expand_as(right), atol=1e-3)
    assert float(across.diff(dim=1).abs().max()) < 1e-3
    area = side.square()
    assert 0.3 - 1e-3 <= float(area.min()) < 0.35
    assert 0.95 < float(area.max()) <= 1 + 1e-3
    assert float(area.mean()) == pytest.approx(0.65, abs=0.05)
    assert 75 <= int((right[:, 0, 0] < 0).sum()) <= 125
    assert float(across.min()) < 1
    assert float(across.max()) > size - 2
    for number in (0, 1, 2):
        at = [down[number].numpy(), across[number].numpy()]
        for channel in range(3):
            expected = map_coordinates(photograph[channel].numpy(), at, order=1, mode="nearest")
            found = cropped[number, channel].numpy()
            assert abs(found - expected)[inner, inner].max() < 0.05


@pytest.mark.parametrize("norm", [LINF, Ball(2.0, 300.0)])
def test_noise_has_its_share_of_the_largest_root_mean_square(monkeypatch, norm):
    seen = {}
    monkeypatch.setattr(module, "turned_away", lambda *_, **given: seen.update(given))
    images = TensorImages(scenes(8, 32, seed=1))
    flat_uap(tiny(), images, LABELS, norm, 0, noise=0.5)
    noise = torch.cat([seen["tried"](torch.zeros(3, 32, 32)) for _ in range(20)])
    largest = float(norm.eps * norm.normalise(torch.ones(3, 32, 32)).square().mean().sqrt())
    assert float(noise.std()) == pytest.approx(0.5 * largest, rel=0.02)


def test_it_turns_the_answers_away_and_is_made_of_its_seed():
    network = convolutional()
    images = TensorImages(scenes(8, 32, seed=1))
    given = (network, images, LABELS, LINF, 3)
    plain = cosine_uap(*given, steps=20).rho
    found = flat_uap(*given, steps=20)
    assert float(found.rho.abs().max()) <= 8 + 1e-5
    assert found.passes == 20
    assert torch.equal(found.rho, flat_uap(*given, steps=20).rho)

    def turned(rho):
        clean = images.images.float()
        with torch.no_grad():
            answers = network(clean), network((clean + rho).clamp(0, 255))
        return float(torch.cosine_similarity(*answers).mean())

    noise = 8 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0)).sign()
    assert turned(found.rho) < turned(noise)
    assert turned(plain) < turned(noise)


@pytest.mark.parametrize("setting", [{"noise": -0.1}, {"least_crop": 0.0}, {"least_crop": 1.5}])
def test_settings_out_of_range_are_named(setting):
    images = TensorImages(scenes(4, 32, seed=1))
    with pytest.raises(UapError, match=next(iter(setting))):
        flat_uap(tiny(), images, LABELS[:4], LINF, 0, **setting)
