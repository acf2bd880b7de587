"""SGA: the direction of a step is the mean of the gradients of its inner walk."""

import pytest
import torch

from uap_lightning.attacks import sga as module
from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.attacks.sga import sga
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import TensorImages
from uap_lightning.networks import TargetNetwork

QUICK = {"steps": 30, "batch_size": 8, "inner": 3, "inner_batch_size": 3}


@pytest.mark.parametrize("loss", ["cross_entropy", "cosine", "margin"])
def test_it_fools_unseen_images_more_than_signs_and_repeats(network, images, labels, linf, loss):
    half = TensorImages(images.images[:20])
    rest = TensorImages(images.images[20:])
    found = sga(network, half, labels[:20], linf, 1, loss=loss, **QUICK)
    assert float(found.rho.abs().max()) <= 10 + 1e-5
    signs = 10 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0)).sign()
    fooled, random = (fooling_ratio(network, rest, labels[20:], rho) for rho in (found.rho, signs))
    assert fooled > random + 0.3
    assert torch.equal(sga(network, half, labels[:20], linf, 1, loss=loss, **QUICK).rho, found.rho)
    assert found.passes == 30 * 9 / 20


def test_the_gradient_of_a_step_is_the_mean_of_those_of_the_walk(images, labels, linf, monkeypatch):
    """On a network that is linear in the pixels, by hand: two inner steps of one image each."""
    weight = torch.randn(8, 3 * 32 * 32, generator=torch.Generator().manual_seed(0)) * 1e-3
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 8, bias=False))
    model[1].weight.data = weight
    network = TargetNetwork(model, "linear", [127.5] * 3, [1.0] * 3)
    met = []

    def descend(loss, start, batches, *given, **named):
        rho = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(rho, batches[0]), rho)
        met.append((start, gradient, batches[0]))
        return start

    monkeypatch.setattr(module, "descend", descend)
    only = TensorImages(images.images[:1])
    settings = {"steps": 1, "batch_size": 1, "inner": 2, "inner_batch_size": 1, "step_size": 0.4}
    sga(network, only, labels[:1], linf, 0, loss="cross_entropy", **settings)
    [(start, gradient, numbers)] = met
    assert numbers == [0]
    image, label = only.images[0].float(), int(labels[0])

    def slope(rho):
        """Of minus the cross-entropy; the clamp of pixels cuts it where it acts."""
        moved = image + rho
        logits = weight @ (moved.clamp(0, 255) - 127.5).flatten()
        assert -torch.log_softmax(logits, 0)[label] < 9
        error = torch.softmax(logits, 0)
        error[label] -= 1
        inside = (moved >= 0) & (moved <= 255)
        return -(weight.T @ error).view(3, 32, 32) * inside

    first = slope(start)
    second = slope((start - 0.25 * 0.4 * 10 * first.sign()).clamp(-10, 10))
    torch.testing.assert_close(gradient, (first + second) / 2, atol=1e-7, rtol=1e-4)
    assert not torch.allclose(gradient, first, atol=1e-7)


def test_a_network_without_gradient_is_said_not_scored(images, labels, linf):
    model = torch.nn.Sequential(torch.nn.Threshold(0.5, 0.0), torch.nn.Flatten())
    network = TargetNetwork(model, "steps", [0.0] * 3, [1.0] * 3)
    network.forward = lambda x: (x.flatten(1)[:, :8] > 127).float()
    with pytest.raises(UapError, match="zero on the network steps"):
        sga(network, images, labels, linf, 0, **QUICK)


@pytest.mark.parametrize(
    "setting", [{"loss": "none"}, {"inner": 0}, {"inner_batch_size": 17}, {"inner_batch_size": 0}]
)
def test_settings_out_of_range_are_named(network, images, labels, linf, setting):
    with pytest.raises(UapError, match=next(iter(setting))):
        sga(network, images, labels, linf, 0, **setting)
