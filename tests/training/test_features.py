"""What early layers see: which layers, what they return, and how far apart two images are."""

from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from tests.tiny import QUICK_TRAIN, photographs, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.detectors import DctSvm
from uap_lightning.jobs.building import build_module, build_parts, find_early
from uap_lightning.networks import TargetNetwork
from uap_lightning.networks.tiny import tiny
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.training.features import early_layers, feature_distance, features
from uap_lightning.training.losses import charbonnier
from uap_lightning.training.module import RectifierModule


def resnet(seed=0):
    torch.manual_seed(seed)
    return torchvision.models.resnet18().eval().requires_grad_(False)


def named(network, size):
    names = {module: name for name, module in network.named_modules()}
    return [names[layer] for layer in early_layers(network, size)]


def test_the_layers_are_the_last_ones_of_their_resolution():
    assert named(resnet(), 64) == ["conv1", "layer1.1.conv2", "layer2.1.conv2"]
    # VGG-11 has convolutions before each of its max-pools; those of the whole side are left out.
    vgg = torchvision.models.vgg11(num_classes=3).eval()
    assert named(vgg, 64) == ["features.3", "features.8", "features.13"]
    # One stage alone: it patches the image by eight.
    patches = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(4 * 16, 2))
    assert named(patches, 32) == ["0"]
    # Of branches side by side the one that is run last, and no module that is run twice.
    googlenet = torchvision.models.googlenet(init_weights=False).eval()
    assert named(googlenet, 64) == ["conv1.conv", "conv3.conv", "inception3b.branch4.1.conv"]
    down = nn.Conv2d(3, 3, 2, 2)
    twice = nn.Sequential(down, down, nn.Conv2d(3, 5, 2, 2), nn.Flatten(), nn.Linear(80, 2))
    assert named(twice, 32) == ["2"]
    with pytest.raises(UapError, match="no convolution whose maps have a half, a quarter"):
        early_layers(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)), 32)


def test_they_return_what_torchvision_extracts_and_nothing_behind_them_runs():
    network, images = resnet(), photographs(64, 2).take(range(2)).float()
    names = ["conv1", "layer1.1.conv2", "layer2.1.conv2"]
    extracted = create_feature_extractor(network, names)(images)
    ran = []
    network.layer3.register_forward_hook(lambda *_: ran.append(1))
    found = features(network, [network.get_submodule(name) for name in names], images)
    assert not ran
    for name, maps in zip(names, found, strict=True):
        assert torch.equal(maps, extracted[name])
    network(images)
    assert ran == [1]  # no hook of ours is left that ends the pass
    assert not any(
        module._forward_hooks for module in network.modules() if module.__class__ is nn.Conv2d
    )


def test_an_activation_that_writes_over_its_input_changes_nothing():
    """VGG without batch norm: ReLU(inplace=True) stands behind each convolution."""
    torch.manual_seed(0)
    network, images = torchvision.models.vgg11(num_classes=3).eval(), photographs(64, 2)
    images = images.take(range(2)).float() / 255 - 0.5
    maps, expected = images, []
    for place, layer in enumerate(network.features):
        maps = layer(maps)
        if place in (3, 8, 13):
            expected.append(maps.clone())
    found = features(network, early_layers(network, 64), images)
    assert [bool((one < 0).any()) for one in found] == [True] * 3
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_distance_is_the_mean_over_maps_in_units_of_their_deviation():
    network, clean = resnet(), photographs(64, 3).take(range(3)).float()
    generator = torch.Generator().manual_seed(0)
    rectified = (clean + 4 * torch.randn(clean.shape, generator=generator)).requires_grad_()
    layers = early_layers(network, 64)
    found = feature_distance(network, layers, rectified, clean)
    names = ["conv1", "layer1.1.conv2", "layer2.1.conv2"]
    extract = create_feature_extractor(network, names)
    aims, seen = extract(clean), extract(rectified.detach())
    expected = 0.0
    for name in names:
        total = 0.0
        for channel in range(aims[name].shape[1]):
            aim, other = aims[name][:, channel].double(), seen[name][:, channel].double()
            deviation = ((aim - aim.mean()).square().mean()).sqrt()
            total += float((other - aim).abs().mean() / deviation)
        expected += total / aims[name].shape[1] / 3
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)
    assert float(feature_distance(network, layers, clean, clean)) == 0
    # One place alone has no deviation.
    point = torch.zeros(1, 3, 8, 8)
    assert feature_distance(network, early_layers(network, 8), point + 1, point).isfinite()
    found.backward()
    assert rectified.grad.abs().sum() > 0


def test_the_loss_asks_the_networks_in_turn(monkeypatch):
    first, second = resnet(0), resnet(1)
    clean = photographs(64, 2).take(range(2)).float()
    module = RectifierModule(
        first,
        ResidualPRN(8, 2),
        DctSvm(64),
        {},
        reconstruction=2.0,
        features=3.0,
        early=[early_layers(first, 64), early_layers(second, 64)],
        matched=[second],
        optimizer=partial(torch.optim.SGD, lr=0.0),
    )
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    other = (clean + 5).clamp(0, 255)
    batch = {"image": clean, "input": other, "prediction": torch.zeros(2, dtype=torch.long)}
    for step, network in ((0, first), (1, second), (2, first)):
        monkeypatch.setattr(RectifierModule, "global_step", step)
        apart = feature_distance(network, early_layers(network, 64), other, clean)
        expected = 2 * charbonnier(other, clean) + 3 * apart
        # The rectifier starts as the identity.
        assert float(module.training_step(batch, 0).detach()) == pytest.approx(
            float(expected), rel=1e-3
        )


def test_a_run_takes_the_weight_from_its_config_and_refuses_a_network_without_such_layers():
    network = TargetNetwork(resnet(), "resnet", [127.5] * 3, [127.5] * 3)
    words = [*QUICK_TRAIN, "rectifier.training.loss.features=0.5"]
    cfg = typed_config("train", *words)
    assert cfg.rectifier.training.loss.total() == 1.5
    parts = build_parts(cfg, 32)
    module = build_module(cfg, network, parts, {}, (), find_early(cfg, [network], 32))
    clean = photographs(32, 2).take(range(2)).float()
    other, label = clean.roll(1, 3), torch.zeros(2, dtype=torch.long)
    apart = feature_distance(network, early_layers(network, 32), other, clean)
    expected = float(charbonnier(other, clean) + 0.5 * apart)
    assert float(module.loss(other, clean, label)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UapError, match=r"^tiny: rectifier\.training\.loss\.features is above 0"):
        find_early(cfg, [tiny()], 32)
