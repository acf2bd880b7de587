"""Caffe's normalisation: its formula, and torch's own module."""

import pytest
import torch
from torch import nn

from tests.networks.caffe.files import write_caffemodel
from tests.networks.caffe.networks import (
    LOADERS,
    NORM,
    SHAPES,
    loaded,
    random_layers,
)
from uap_lightning.networks.caffe.normalisation import AcrossChannels


@pytest.mark.parametrize("name", LOADERS)
def test_the_normalisation_is_caffes_formula(name, tmp_path):
    """x / (k + alpha / n * sum of squares of n neighbours) ** beta, for each channel."""
    path = write_caffemodel(tmp_path / "w.caffemodel", random_layers(SHAPES[name]))
    modules = loaded(name, path).modules()
    norms = [module for module in modules if isinstance(module, AcrossChannels)]
    assert norms
    maps = 100 * torch.randn(1, 7, 2, 3, generator=torch.Generator().manual_seed(0))
    size, k, alpha, beta = NORM[name]
    expected = torch.empty_like(maps)
    for channel in range(7):
        near = maps[:, max(channel - size // 2, 0) : channel + size // 2 + 1]
        scale = k + alpha * near.square().sum(1)
        expected[:, channel] = maps[:, channel] / scale**beta
    for norm in norms:
        torch.testing.assert_close(norm(maps), expected)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 7, 5, 3), (2, 64, 4, 6)])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_it_is_torchs_own_module_and_its_gradient(shape, form):
    maps = 100 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    maps = maps.to(memory_format=form)
    settings = {"alpha": 1e-2, "beta": 0.75, "k": 2.0}
    own, torchs = AcrossChannels(5, **settings), nn.LocalResponseNorm(5, **settings)
    results = []
    for norm, x in ((own, maps.requires_grad_()), (torchs, maps.detach().requires_grad_())):
        y = norm(x)
        weights = torch.linspace(-1, 1, y.numel()).view(shape)
        results.append((y.detach(), *torch.autograd.grad((weights * y).sum(), x)))
    (y, gradient), (expected, expected_gradient) = results
    # what is subtracted in the gradient is as large as what is left: a few roundings of it
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=0)
    scale = float(expected_gradient.abs().max())
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-6 * scale)
    assert y.is_contiguous(memory_format=form)
