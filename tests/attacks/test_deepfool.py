"""DeepFool, against closed forms."""

import pytest
import torch
from torch import nn

from uap_lightning.attacks.deepfool import boundaries, deepfool
from uap_lightning.networks import TargetNetwork


def linear(seed, classes=5, size=4):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, classes))
    return TargetNetwork(model, "linear", [0.0] * 3, [1.0] * 3)


def test_deepfool_finds_the_nearest_boundary_of_a_linear_classifier():
    network = linear(0)
    images = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 255
    weight, bias = network.model[1].weight.double(), network.model[1].bias.double()
    found = deepfool(network, images, candidates=5)
    for image, step, iterations in zip(images, found.step, found.iterations, strict=True):
        logits = weight @ image.flatten().double() + bias
        first = int(logits.argmax())
        distances = [
            (logits[first] - logits[k]) / (weight[first] - weight[k]).norm()
            for k in range(5)
            if k != first
        ]
        assert int(network((image + step)[None])[0].argmax()) != first
        assert int(iterations) == 1
        assert float(step.norm()) == pytest.approx(1.02 * float(min(distances)), rel=1e-3)


def test_deepfool_treats_each_image_of_a_batch_as_if_it_were_alone(network, images):
    batch = images.take(range(6)).float()
    together = deepfool(network, batch, candidates=8, max_iterations=4)
    for i in range(6):
        alone = deepfool(network, batch[i : i + 1], candidates=8, max_iterations=4)
        assert int(alone.iterations) == int(together.iterations[i])
        torch.testing.assert_close(together.step[i], alone.step[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("at_once", [False, True])
def test_boundaries_are_differences_of_one_class_at_a_time(network, images, at_once):
    points = images.take([3, 4]).float().requires_grad_()
    classes = torch.tensor([[3, 0, 6], [1, 2, 7]])
    differences, normals = boundaries(points, network(points), classes, at_once=at_once)
    for i in range(2):
        for k in (1, 2):
            single = points[i : i + 1].detach().requires_grad_()
            out = network(single)[0]
            difference = out[classes[i, k]] - out[classes[i, 0]]
            (expected,) = torch.autograd.grad(difference, single)
            assert float(differences[i, k - 1]) == pytest.approx(difference.item(), abs=1e-4)
            torch.testing.assert_close(normals[i, k - 1], expected[0], rtol=1e-3, atol=1e-6)


def test_without_a_gradient_deepfool_takes_no_step():
    model = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(12, 3))
    nn.init.zeros_(model[2].weight)
    model[2].bias.data = torch.tensor([9.0, 0.0, 0.0])
    found = deepfool(TargetNetwork(model, "flat", [0.0] * 3, [1.0] * 3), torch.ones(1, 3, 2, 2))
    assert torch.equal(found.step, torch.zeros(1, 3, 2, 2))
    assert int(found.iterations) == 10
