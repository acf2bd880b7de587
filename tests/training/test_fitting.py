"""What a detector is fitted on: clean, perturbed, and clean images with harmless random signs."""

import torch
from torch import nn

from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.sampling import PerturbationSampler
from uap_lightning.training.fitting import DetectorSample, fit_on_crops, random_signed


class GreyCrops:
    """Crops whose every value is 128."""

    def __len__(self):
        return 10

    def take(self, numbers):
        return torch.full((len(numbers), 3, 8, 8), 128, dtype=torch.uint8)


class Grey(nn.Module):
    """Returns grey images, so that what it removes is what was added."""

    def forward(self, images):
        return torch.full_like(images, 128)


class Noted(nn.Module):
    """A detector that notes what it is given."""

    def features(self, difference):
        return difference.flatten(1)

    def fit(self, features, perturbed):
        self.added, self.perturbed = features, perturbed


def fitted(harmless):
    """What was added to 400 images, and which of them count as perturbed."""
    detector = Noted()
    sampler = PerturbationSampler(torch.full((1, 3, 8, 8), 7.0), 0.5, False, Ball(2, 1e3), 0)
    sample = DetectorSample(400, 0.5, 50, 0, harmless=harmless)
    fit_on_crops(detector, Grey(), GreyCrops(), sampler, sample, torch.device("cpu"))
    return detector.added, detector.perturbed


def test_a_share_of_the_clean_images_carries_random_signs():
    added, perturbed = fitted(0.25)
    assert bool((added[perturbed] == 7).all())
    clean = added[~perturbed]
    signed = clean.abs().amax(1) > 0
    # 200 clean images: four standard deviations are 0.12.
    assert abs(float(signed.double().mean()) - 0.25) < 0.12
    sizes = clean[signed].abs()
    assert torch.allclose(sizes, sizes[:, :1].expand_as(sizes), atol=1e-4)
    assert 4 <= float(sizes.min()) < 7
    assert 10 < float(sizes.max()) <= 16
    # Both signs, and another draw for every image.
    assert bool((clean[signed].sign().mean(1).abs() < 0.4).all())
    assert len({tuple(row.tolist()) for row in clean[signed].sign()}) == int(signed.sum())


def test_without_it_clean_images_are_clean():
    added, perturbed = fitted(0.0)
    assert bool((added[~perturbed] == 0).all())
    assert bool(perturbed.any())


class RedCrops(GreyCrops):
    """Crops of one strong colour."""

    def take(self, numbers):
        return super().take(numbers) * torch.tensor([1, 0, 0], dtype=torch.uint8)[:, None, None]


def test_a_share_of_the_images_has_other_colours_whether_perturbed_or_not():
    detector, given = Noted(), []

    def rectifier(images):
        given.append(images)
        return images

    sampler = PerturbationSampler(torch.full((1, 3, 8, 8), 7.0), 0.5, False, Ball(2, 1e3), 0)
    sample = DetectorSample(400, 0.5, 50, 0, recolour=0.3)
    module = nn.Module()
    module.forward = rectifier
    fit_on_crops(detector, module, RedCrops(), sampler, sample, torch.device("cpu"))
    images = torch.cat(given) - 7 * detector.perturbed[:, None, None, None]
    changed = (images != torch.tensor([128.0, 0, 0])[:, None, None]).flatten(1).any(1)
    for kind in (detector.perturbed, ~detector.perturbed):
        assert abs(float(changed[kind].double().mean()) - 0.3) < 0.12


def test_the_draw_is_repeatable_and_stays_in_range():
    first, second = fitted(0.25)[0], fitted(0.25)[0]
    assert torch.equal(first, second)
    white = random_signed(torch.full((4, 3, 8, 8), 250.0), torch.Generator().manual_seed(0))
    assert float(white.max()) <= 255
    assert float(white.min()) < 247
