"""The frozen wrapper: the pixel contract, gradients, classes and digest."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from uap_lightning.core.errors import UapError
from uap_lightning.networks import TargetNetwork, check_images


def pixels(count=2, size=32, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 255


def test_channel_order_mean_and_scale_live_inside():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.mean((2, 3))

    network = TargetNetwork(Spy(), "spy", [104.0, 117.0, 123.0], [2.0, 3.0, 4.0], bgr=True)
    x = pixels()
    network(x)
    for channel, (mean, scale) in enumerate(zip((104, 117, 123), (2, 3, 4), strict=True)):
        torch.testing.assert_close(seen[0][:, channel], (x[:, 2 - channel] - mean) / scale)


def test_the_network_stays_frozen_and_gradients_reach_the_pixels():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(3600, 5))
    network = TargetNetwork(model, "batch-norm", [0.0] * 3, [255.0] * 3)
    before = copy.deepcopy(network.state_dict())
    network.train()
    assert not any(module.training for module in network.modules())
    x = pixels().requires_grad_()
    network(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_size_that_the_network_does_not_take_is_told():
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 2))
    network = TargetNetwork(model, "linear", [0.0] * 3, [1.0] * 3)
    with pytest.raises(UapError, match=r"linear does not take images of side 8 .* data\.crop"):
        network.classes(8)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(3, 8, 8), "expected N x 3 x H x W"),
        (torch.zeros(1, 1, 8, 8), "expected N x 3 x H x W"),
        (torch.zeros(0, 3, 8, 8), "at least one"),
        (torch.zeros(1, 3, 0, 8), "at least one"),
        (np.zeros((1, 3, 8, 8)), "a ndarray: expected a tensor.*from_numpy"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int32), "expected uint8 or float32"),
        (torch.full((1, 3, 8, 8), -2.0), "expected values 0-255"),
        (torch.full((1, 3, 8, 8), 256.0), "expected values 0-255"),
        (torch.full((1, 3, 8, 8), float("nan")), "expected values 0-255"),
        (torch.full((1, 3, 8, 8), 0.7), "multiply them by 255"),
    ],
)
def test_images_that_break_the_pixel_contract_are_refused(images, said):
    with pytest.raises(UapError, match=said):
        check_images(images)


def test_images_of_the_contract_pass():
    check_images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    check_images(pixels())


def test_a_network_that_is_no_classifier_is_told():
    network = TargetNetwork(nn.Identity(), "identity", [0.0] * 3, [1.0] * 3)
    with pytest.raises(UapError, match="expected N x K logits"):
        network.classes(8)


def test_the_digest_follows_the_input_contract():
    def digest(mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0), **order):
        return TargetNetwork(nn.Identity(), "identity", mean, std, **order).digest

    image = torch.tensor([1.0, 2.0, 3.0])[:, None, None].expand(3, 8, 8)
    others = [digest(mean=(3.0, 2.0, 1.0)), digest(std=(2.0,) * 3), digest(bgr=True), digest(image)]
    assert digest() == digest()
    assert len({digest(), *others}) == 5


def test_the_classes_are_counted_once_a_size():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x.shape[-1])
            return x.mean((2, 3))

    network = TargetNetwork(Spy(), "spy", [0.0] * 3, [1.0] * 3)
    assert [network.classes(size) for size in (8, 8, 16, 8, 16)] == [3] * 5
    assert seen == [8, 16]
    assert copy.deepcopy(network).classes(8) == 3
