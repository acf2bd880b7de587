"""Which images show one photograph."""

import numpy as np
import torch
from PIL import Image

from tests.tiny import scenes
from uap_lightning.streams.photographs import same_photograph, thumbnails


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
