"""ART's attacks run against the guard."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from uap_lightning.core.errors import UapError
from uap_lightning.guard.guard import Guard

EPS = 10.0


@pytest.fixture
def guard(defense, network):
    return Guard.load(defense, network)


def gradient(guard, x, labels, *, soft_gate):
    """Of the cross-entropy, by autograd through the guard itself."""
    attacked = Guard(guard.network, guard.rectifier, guard.detector, soft_gate=soft_gate)
    x = x.clone().requires_grad_()
    loss = functional.cross_entropy(attacked(x), labels, reduction="sum")
    return torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize("soft_gate", [False, True])
def test_the_art_estimator_is_the_guard(guard, images, soft_gate):
    art = pytest.importorskip("uap_lightning.guard.adapters.art")
    x = images.take(range(12)).float()
    estimator = art.art_classifier(guard, soft_gate=soft_gate)
    seen = guard.inspect(x)
    assert 0 < int(seen.perturbed.sum()) < 12
    np.testing.assert_allclose(estimator.predict(x.numpy()), seen.logits.numpy(), atol=1e-4)
    labels = seen.logits.argmax(1)
    one_hot = functional.one_hot(labels, 8).float().numpy()
    expected = gradient(guard, x, labels, soft_gate=soft_gate)
    found = estimator.loss_gradient(x.numpy(), one_hot)
    # ART averages the loss over the batch.
    scale = float(expected.abs().max())
    ratio = float(expected.abs().sum() / np.abs(found).sum())
    np.testing.assert_allclose(found * round(ratio), expected.numpy(), atol=1e-3 * scale)
    assert estimator.nb_classes == 8


def test_the_gate_is_in_the_gradient_only_where_it_is_asked_for(guard, images):
    x = images.take(range(12)).float()
    labels = guard(x).argmax(1)
    hard = gradient(guard, x, labels, soft_gate=False)
    soft = gradient(guard, x, labels, soft_gate=True)
    assert float((soft - hard).abs().max()) > 1e-3 * float(hard.abs().max())


def test_arts_attacks_run_against_the_guard(guard, network, images):
    art = pytest.importorskip("uap_lightning.guard.adapters.art")
    from art.attacks.evasion import ProjectedGradientDescent, UniversalPerturbation

    x = images.take(range(16)).float().numpy()
    estimator = art.art_classifier(guard)
    before = guard(torch.from_numpy(x)).argmax(1)
    attack = ProjectedGradientDescent(
        estimator, eps=4 * EPS, eps_step=EPS, max_iter=8, verbose=False
    )
    found = torch.from_numpy(attack.generate(x))
    assert float((found - torch.from_numpy(x)).abs().max()) <= 4 * EPS + 1e-3
    fooled = guard(found).argmax(1) != before
    assert float(fooled.float().mean()) > 0.5
    universal = UniversalPerturbation(
        estimator,
        attacker="fgsm",
        attacker_params={"eps": EPS},
        eps=4 * EPS,
        max_iter=1,
        verbose=False,
    )
    moved = universal.generate(x)
    assert moved.shape == x.shape
    assert np.abs(universal.noise).max() <= 4 * EPS + 1e-3


def test_an_art_preprocessor_alone_rectifies_where_the_detector_fires(guard, images):
    art = pytest.importorskip("uap_lightning.guard.adapters.art")
    x = images.take(range(8))
    seen = guard.inspect(x)
    used, labels = art.GuardPreprocessor(guard)(x.numpy(), np.arange(8))
    for i, fired in enumerate(seen.perturbed.tolist()):
        expected = seen.rectified[i] if fired else x[i].float()
        np.testing.assert_allclose(used[i], expected.numpy(), atol=1e-3)
    assert labels.tolist() == list(range(8))
    by_hand = Guard(guard.network, guard.rectifier, guard.detector)
    with pytest.raises(UapError, match=r"Guard\.load"):
        art.art_classifier(by_hand)
