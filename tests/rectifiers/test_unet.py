"""The U-Net: the identity at first, its maps and arithmetic as published, of any size."""

import pytest
import torch

from uap_lightning.core.errors import UapError
from uap_lightning.rectifiers import UNet


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (16, 16)])
def test_it_starts_as_the_identity_at_any_size(size):
    x = torch.rand(2, 3, *size) * 255
    assert torch.equal(UNet(width=2).eval()(x), x)


def test_it_stays_in_range_and_looks_at_every_scale():
    torch.manual_seed(0)
    unet = UNet(width=8).eval()
    torch.nn.init.normal_(unet.tail.weight, std=0.05)
    x = (torch.rand(1, 3, 64, 64) * 255).requires_grad_()
    rectified = unet(x)
    assert float(rectified.min()) >= 0
    assert float(rectified.max()) <= 255
    for layers in (*unet.down, *unet.up):
        (gradient,) = torch.autograd.grad(rectified.sum(), layers[0].weight, retain_graph=True)
        assert gradient.abs().sum() > 0
    # The coarsest scale lets a pixel see far beyond what the finest one could.
    (seen,) = torch.autograd.grad(unet(x)[0, :, 32, 32].sum(), x)
    reached = seen.abs().sum((0, 1)).nonzero()
    assert reached.min() < 8
    assert reached.max() > 56


def test_its_layers_are_those_of_the_paper():
    """Section 4.2: one C2 and four C3 blocks down, three C3 and one C2 up, and a 1 x 1 last."""
    unet = UNet()
    kernels = [
        [module.out_channels for module in layers if isinstance(module, torch.nn.Conv2d)]
        for layers in (*unet.down, *reversed(unet.up))
    ]
    assert kernels == [
        [64, 64],
        [128] * 3,
        [256] * 3,
        [256] * 3,
        [256] * 3,
        [256] * 3,
        [256] * 3,
        [128] * 3,
        [64, 64],
    ]
    assert unet.tail.kernel_size == (1, 1)


def test_a_width_out_of_range_is_named():
    with pytest.raises(UapError, match="width is 0"):
        UNet(width=0)
