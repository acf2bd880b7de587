"""DeepFool and the universal attacks, against closed forms and plain loops."""

import math

import pytest
import torch
from torch import nn

from tests.tiny import TensorImages
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.deepfool import boundaries, deepfool
from uap_lightning.attacks.deepfool_uap import deepfool_uap
from uap_lightning.attacks.deepfool_uap_batched import deepfool_uap_batched, lengthened
from uap_lightning.attacks.fooling import clean_predictions, fooling_ratio
from uap_lightning.core.errors import UapError
from uap_lightning.data.generated import generated_image
from uap_lightning.networks import TargetNetwork
from uap_lightning.networks.tiny import CLASSES
from uap_lightning.perturbations.ball import Ball

NORMS = [Ball(math.inf, 10.0), Ball(2.0, 280.0)]


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


def plain_loop(network, images, norm, seed, goal, max_passes, max_iterations):
    """The authors' loop without screening: one image at a time, one class at a time."""
    rho = torch.zeros(3, 32, 32)
    generator = torch.Generator().manual_seed(seed)
    clean = [int(network(images.take([i]).float()).argmax()) for i in range(len(images))]
    for _ in range(max_passes):
        for i in torch.randperm(len(images), generator=generator).tolist():
            image = images.take([i]).float()
            if int(network(image + rho).argmax()) != clean[i]:
                continue
            start = image + rho
            total = torch.zeros_like(start)
            order = network(start)[0].argsort(descending=True)[:8]
            iterations = 0
            while iterations < max_iterations:
                x = (start + 1.02 * total).requires_grad_()
                logits = network(x)[0]
                if int(logits.argmax()) != int(order[0]):
                    break
                grads = [torch.autograd.grad(logits[k], x, retain_graph=True)[0] for k in order]
                best = None
                for k in range(1, len(order)):
                    w = grads[k] - grads[0]
                    f = (logits[order[k]] - logits[order[0]]).item()
                    distance = abs(f) / float(w.norm())
                    if best is None or distance < best[0]:
                        best = (distance, w / w.norm())
                total = total + (best[0] + 1e-4) * best[1]
                iterations += 1
            if iterations < max_iterations - 1:
                rho = norm.project(rho + 1.02 * total[0])
        wrong = [
            int(network((images.take([i]).float() + rho).clamp(0, 255)).argmax()) != clean[i]
            for i in range(len(images))
        ]
        if sum(wrong) / len(wrong) >= goal:
            break
    return rho


@pytest.mark.parametrize("norm", NORMS, ids=["linf", "l2"])
def test_deepfool_uap_equals_the_plain_loop(network, images, labels, norm):
    few = TensorImages(images.images[:12])
    settings = {"goal": 0.7, "max_passes": 2, "max_iterations": 10}
    crafted = deepfool_uap(
        network, few, labels[:12], norm, 3, candidates=8, batch_size=5, **settings
    )
    expected = plain_loop(network, few, norm, 3, *settings.values())
    assert float((crafted.rho - expected).abs().max()) < 1e-2
    assert float(norm.size(crafted.rho)) <= norm.eps * (1 + 1e-5)


def test_a_step_is_doubled_while_no_fewer_images_are_fooled(network, images, labels, linf):
    batch, said = images.images[:16].float(), labels[:16]
    rho = torch.zeros(3, 32, 32)
    step = deepfool(network, batch, candidates=8, max_iterations=2).step.mean(0)
    found = lengthened(network, batch, said, rho, step, linf)
    lengths = [linf.project(2**k * step) for k in range(10)]
    fooled = [int((network.predict(batch + length) != said).sum()) for length in lengths]
    stop = next(k for k in range(10) if k == 9 or fooled[k] == 16 or fooled[k + 1] < fooled[k])
    assert stop > 0
    assert torch.equal(found, lengths[stop])


def test_batches_of_many_reach_the_goal_on_unseen_images_too(network, images, labels, linf):
    many = deepfool_uap_batched(network, images, labels, linf, 0, batch_size=16)
    assert float(linf.size(many.rho)) <= linf.eps * (1 + 1e-5)
    assert many.passes < 10
    assert fooling_ratio(network, images, labels, many.rho) >= 0.8
    generator = torch.Generator().manual_seed(6)
    unseen = TensorImages(
        torch.stack([generated_image(k % CLASSES, 32, generator) for k in range(80)])
    )
    predicted = clean_predictions(network, unseen)
    assert fooling_ratio(network, unseen, predicted, many.rho) > 0.65


@pytest.mark.parametrize("norm", NORMS, ids=["linf", "l2"])
def test_sgd_uap_fools_within_its_ball(network, images, labels, norm):
    crafted = cosine_uap(network, images, labels, norm, 0, steps=40, batch_size=16)
    assert float(norm.size(crafted.rho)) <= norm.eps * (1 + 1e-5)
    noise = norm.project(torch.randn(3, 32, 32).sign() * norm.eps)
    floor = fooling_ratio(network, images, labels, noise)
    assert fooling_ratio(network, images, labels, crafted.rho) > max(0.5, floor + 0.2)
    again = cosine_uap(network, images, labels, norm, 0, steps=40, batch_size=16)
    assert torch.equal(crafted.rho, again.rho)
    other = cosine_uap(network, images, labels, norm, 1, steps=40, batch_size=16)
    assert not torch.equal(crafted.rho, other.rho)


def test_the_fooling_ratio_counts_changed_predictions_of_clamped_images(network, images, labels):
    rho = torch.full((3, 32, 32), 10.0)
    rho[:, ::2] = -10
    changed = 0
    for i in range(len(images)):
        image = images.take([i]).float()
        perturbed = torch.minimum(
            torch.maximum(image + rho, torch.tensor(0.0)), torch.tensor(255.0)
        )
        changed += int(network(perturbed).argmax()) != int(network(image).argmax())
    assert fooling_ratio(network, images, labels, rho, 7) == pytest.approx(changed / len(images))


@pytest.mark.parametrize(
    "settings", [{"steps": 0}, {"batch_size": 0}, {"step_size": 0.0}, {"momentum": 1.0}]
)
def test_sgd_uap_refuses_settings_out_of_range(network, images, labels, linf, settings):
    with pytest.raises(UapError, match="attack has"):
        cosine_uap(network, images, labels, linf, 0, **settings)


class Broken(nn.Module):
    def forward(self, x):
        return (x.flatten(1)[:, :4] - 300).sqrt()


def test_a_gradient_that_is_not_finite_is_named(images, linf):
    network = TargetNetwork(Broken(), "broken", [0.0] * 3, [1.0] * 3)
    labels = torch.zeros(len(images), dtype=torch.long)
    with pytest.raises(UapError, match=r"step 1 \(images \d+, \d+\) is not finite on the network"):
        cosine_uap(network, images, labels, linf, 0, steps=1, batch_size=2)
    first = int(torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[0])
    labels = clean_predictions(network, images)
    said = f"image {first} are not finite at linearisation 1 of DeepFool on the network broken"
    for attack in (deepfool_uap, deepfool_uap_batched):
        with pytest.raises(UapError, match=said):
            attack(network, images, labels, linf, 0, max_passes=1, candidates=3)


def test_deepfool_uap_refuses_settings_out_of_range(network, images, labels, linf):
    for settings in (
        {"goal": 1.5},
        {"max_passes": 0},
        {"candidates": 1},
        {"batch_size": 0},
        {"overshoot": -0.1},
        {"max_iterations": 1},
    ):
        with pytest.raises(UapError, match="attack has goal"):
            deepfool_uap(network, images, labels, linf, 0, **settings)


def test_two_iterations_are_too_few_for_the_exact_attack(network, images, labels, linf):
    with pytest.raises(UapError, match="at least 3 iterations"):
        deepfool_uap(network, images, labels, linf, 0, max_iterations=2)
    deepfool_uap_batched(network, images, labels, linf, 0, max_iterations=1, max_passes=1)


def test_without_a_gradient_deepfool_takes_no_step():
    model = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(12, 3))
    nn.init.zeros_(model[2].weight)
    model[2].bias.data = torch.tensor([9.0, 0.0, 0.0])
    found = deepfool(TargetNetwork(model, "flat", [0.0] * 3, [1.0] * 3), torch.ones(1, 3, 2, 2))
    assert torch.equal(found.step, torch.zeros(1, 3, 2, 2))
    assert int(found.iterations) == 10


def test_fewer_classes_than_candidates_are_all_considered(network, images, labels, linf):
    crafted = deepfool_uap(network, images, labels, linf, 0, max_passes=1, candidates=10)
    expected = deepfool_uap(network, images, labels, linf, 0, max_passes=1, candidates=8)
    assert torch.equal(crafted.rho, expected.rho)
