"""Which images show one photograph."""

import numpy as np
import torch
from PIL import Image

from tests.tiny import scenes
from uap_lightning.streams.photographs import same_photograph, same_scene, thumbnails


def test_a_photograph_is_itself_after_what_happens_to_photographs():
    images = scenes(12, seed=1)
    small = thumbnails(images)
    assert torch.equal(same_photograph(small, small), torch.eye(12, dtype=torch.bool))
    duller = images.float() * 0.9 + 12
    rho = 10 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0)).sign()
    for changed in (duller, (images + rho).clamp(0, 255)):
        assert torch.equal(same_photograph(small, thumbnails(changed)), torch.eye(12) > 0)


def test_thumbnails_are_areas_as_pillow_averages_them():
    image = scenes(1, seed=2)
    grey = image[0].float().mean(0).numpy()
    expected = torch.from_numpy(
        np.array(Image.fromarray(grey, mode="F").resize((16, 16), Image.Resampling.BOX))
    ).flatten()
    expected = expected - expected.mean()
    torch.testing.assert_close(thumbnails(image)[0], expected / expected.norm(), atol=1e-5, rtol=0)


def test_images_of_one_colour_each_are_no_two_photographs():
    plain = torch.stack([torch.full((3, 64, 64), value) for value in (0.0, 0.0, 80.0)])
    assert bool(same_photograph(thumbnails(plain), thumbnails(plain)).all())
    assert not bool(same_photograph(thumbnails(plain), thumbnails(scenes(2))).any())


def test_overlapping_crops_of_a_scene_are_known_once_they_lie_on_one_another():
    wide = scenes(1, size=96, seed=4)[0]
    other = scenes(40, size=64, seed=5)
    crop = wide[:, 10:74, 12:76]
    moved = wide[:, 2:66, 28:92].roll((-8, 16), (-2, -1))
    assert same_scene(crop, moved[None]).tolist() == [True]
    # Not where they lie apart, nor other scenes, nor what is flat.
    assert same_scene(crop, wide[None, :, 2:66, 28:92]).tolist() == [False]
    assert not bool(same_scene(crop, other).any())
    flat = torch.full((2, 3, 64, 64), 90, dtype=torch.uint8)
    assert not bool(same_scene(flat[0], flat).any())


def test_a_smooth_pattern_in_flat_images_does_not_make_them_one_scene():
    wave = 10 * torch.sin(torch.linspace(0, 12, 64))[None, :, None].expand(3, 64, 64)
    images = torch.stack([100 + wave, 180 + wave])
    assert not bool(same_scene(images[0], images[1:]).any())
