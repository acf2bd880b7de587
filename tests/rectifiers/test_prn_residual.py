"""The residual PRN: the identity at first, in range, of any size and any number of images."""

import pytest
import torch

from uap_lightning.rectifiers import ResidualPRN


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (15, 13)])
def test_the_residual_prn_starts_as_the_identity_at_any_size(size):
    x = torch.rand(2, 3, *size) * 255
    assert torch.equal(ResidualPRN(width=8, blocks=1)(x), x)


def test_the_residual_prn_stays_in_range():
    torch.manual_seed(0)
    prn = ResidualPRN(width=8, blocks=1)
    torch.nn.init.normal_(prn.tail.weight, std=5)
    rectified = prn(torch.rand(2, 3, 16, 16) * 255)
    assert rectified.min() >= 0
    assert rectified.max() <= 255


def test_the_blocks_of_pixels_are_torchs(monkeypatch):
    """What the first convolution is given is pixel_unshuffle of the image and its high-pass."""
    seen = []
    prn = ResidualPRN(width=8, blocks=1)
    prn.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 3, 16, 20) * 255
    prn(x)
    expected = torch.nn.functional.pixel_unshuffle((x - 127.5) / 64, 2)
    assert torch.equal(seen[0][:, :12], expected)


@pytest.mark.parametrize("sides", [(16, 20), (12, 32), (4, 8)])
def test_beside_the_image_stands_what_its_mean_over_7_x_7_pixels_lacks(sides):
    seen = []
    prn = ResidualPRN(width=8, blocks=1)
    prn.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 3, *sides) * 255
    prn(x)
    wide = torch.nn.functional.pad(x, (3, 3, 3, 3), mode="reflect")
    high = (x - torch.nn.functional.avg_pool2d(wide, 7, 1)) / 12
    expected = torch.nn.functional.pixel_unshuffle(high.clamp(-4, 4), 2)
    torch.testing.assert_close(seen[0][:, 12:], expected, atol=1e-4, rtol=0)


def test_no_image_gives_no_image():
    assert ResidualPRN(width=8, blocks=2)(torch.zeros(0, 3, 16, 16)).shape == (0, 3, 16, 16)
