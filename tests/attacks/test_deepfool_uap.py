"""The exact DeepFool UAP, against a plain loop."""

import math

import pytest
import torch

from uap_lightning.attacks.deepfool_uap import deepfool_uap
from uap_lightning.attacks.deepfool_uap_batched import deepfool_uap_batched
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import TensorImages
from uap_lightning.perturbations.ball import Ball

NORMS = [Ball(math.inf, 10.0), Ball(2.0, 280.0)]


def plain_loop(network, images, norm, seed, goal, max_passes, max_iterations):
    """The authors' loop without screening: one image at a time, one class at a time."""
    rho, unconverged = torch.zeros(3, 32, 32), 0
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
            if iterations >= max_iterations - 1:
                unconverged += 1
            else:
                rho = norm.project(rho + 1.02 * total[0])
        wrong = [
            int(network((images.take([i]).float() + rho).clamp(0, 255)).argmax()) != clean[i]
            for i in range(len(images))
        ]
        if sum(wrong) / len(wrong) >= goal:
            break
    return rho, unconverged


@pytest.mark.parametrize("norm", NORMS, ids=["linf", "l2"])
def test_deepfool_uap_equals_the_plain_loop(network, images, labels, norm):
    few = TensorImages(images.images[:12])
    settings = {"goal": 0.7, "max_passes": 2, "max_iterations": 10}
    crafted = deepfool_uap(
        network, few, labels[:12], norm, 3, candidates=8, batch_size=5, **settings
    )
    expected, _ = plain_loop(network, few, norm, 3, *settings.values())
    assert float((crafted.rho - expected).abs().max()) < 1e-2
    assert float(norm.size(crafted.rho)) <= norm.eps * (1 + 1e-5)


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


def test_fewer_classes_than_candidates_are_all_considered(network, images, labels, linf):
    crafted = deepfool_uap(network, images, labels, linf, 0, max_passes=1, candidates=10)
    expected = deepfool_uap(network, images, labels, linf, 0, max_passes=1, candidates=8)
    assert torch.equal(crafted.rho, expected.rho)


def test_a_step_counts_only_where_deepfool_converged(network, images, labels, linf):
    few = TensorImages(images.images[:12])
    settings = {"goal": 1.0, "max_passes": 1, "max_iterations": 5}
    crafted = deepfool_uap(network, few, labels[:12], linf, 3, candidates=8, **settings)
    expected, unconverged = plain_loop(network, few, linf, 3, *settings.values())
    assert 0 < unconverged < 12
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(crafted.rho, expected, rtol=0, atol=1e-2)
