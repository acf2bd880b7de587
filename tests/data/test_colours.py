"""Photographs in other colours: drawn for each image alone, and the target of the rectifier too."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.transforms import v2

from tests.tiny import scenes
from uap_lightning.data import TrainingDataModule
from uap_lightning.data.colours import DRAWS, recoloured


def test_an_image_changes_as_torchvision_changes_it_by_the_same_factors():
    image = scenes(1, seed=1).float()
    b, c, s, h = 0.8, 0.1, 0.9, 0.3
    found = recoloured(image, torch.tensor([[0.5, b, c, s, h]]), 1.0)[0]
    # ColorJitter draws from between two equal ends: this very factor.
    expected = image[0] / 255
    for name, factor in (("brightness", 0.6 + 0.8 * b), ("contrast", 0.5 + c)):
        expected = v2.ColorJitter(**{name: (factor, factor)})(expected)
    hue = -0.1 + 0.2 * h
    expected = v2.ColorJitter(hue=(hue, hue))(v2.ColorJitter(saturation=(2 * s, 2 * s))(expected))
    assert torch.equal(found, (expected * 255).round())
    assert (found - image[0]).abs().mean() > 2


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_images_changes_and_the_others_stay_as_they_were(share):
    images = scenes(200, seed=2, size=16).float()
    before = images.clone()
    draws = torch.rand(200, DRAWS, generator=torch.Generator().manual_seed(0))
    found = recoloured(images, draws, share)
    assert torch.equal(images, before)
    assert found.min() >= 0
    assert found.max() <= 255
    assert torch.equal(found, found.round())
    changed = (found != images).flatten(1).any(1).double().mean()
    assert changed == pytest.approx(share, abs=0.08)


class Crops(torch.utils.data.Dataset):
    """As many crops as a batch."""

    def __len__(self):
        return 6


def batch_of(rank, world, recolour, step=4):
    def perturb(images, step, positions, size):
        return (images + 10).clamp(0, 255), torch.ones(len(images), dtype=torch.bool)

    crops = TrainingDataModule(Crops(), perturb, 6, seed=5, recolour=recolour)
    crops.trainer = SimpleNamespace(global_step=step, global_rank=rank, world_size=world)
    images = scenes(6, seed=9, size=16)[rank::world]
    return crops.on_after_batch_transfer({"image": images}, 0)


def test_the_rectifier_is_to_give_back_the_other_colours_and_processes_draw_alike():
    whole = batch_of(0, 1, 0.5)
    plain = batch_of(0, 1, 0.0)["image"]
    changed = (whole["image"] != plain).flatten(1).any(1)
    assert changed.any()
    assert not changed.all()
    assert torch.equal(whole["input"], (whole["image"] + 10).clamp(0, 255))
    for rank in (0, 1):
        assert torch.equal(batch_of(rank, 2, 0.5)["image"], whole["image"][rank::2])
    # Another step draws anew, and the same one the same.
    assert torch.equal(batch_of(0, 1, 0.5)["image"], whole["image"])
    assert not torch.equal(batch_of(0, 1, 0.5, step=5)["image"], whole["image"])
