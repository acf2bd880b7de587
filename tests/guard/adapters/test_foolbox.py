"""foolbox's attacks run against the guard."""

import pytest
import torch

from uap_lightning.guard.guard import Guard

EPS = 10.0


@pytest.fixture
def guard(defense, network):
    return Guard.load(defense, network)


@pytest.mark.parametrize("soft_gate", [False, True])
def test_foolbox_attacks_run_against_the_guard(guard, images, soft_gate):
    adapter = pytest.importorskip("uap_lightning.guard.adapters.foolbox")
    from foolbox.attacks import LinfDeepFoolAttack, LinfPGD

    x = images.take(range(16)).float()
    model = adapter.foolbox_model(guard, soft_gate=soft_gate)
    torch.testing.assert_close(model(x), guard(x))
    labels = guard(x).argmax(1)
    attack = LinfPGD(abs_stepsize=EPS, steps=8)
    _, found, success = attack(model, x, labels, epsilons=4 * EPS)
    assert float((found - x).abs().max()) <= 4 * EPS + 1e-3
    assert torch.equal(guard(found).argmax(1) != labels, success)
    # This detector is random, so that a gradient through its decision leads astray at times.
    assert int(success.sum()) >= (1 if soft_gate else len(x) // 2)
    _, found, _ = LinfDeepFoolAttack(steps=3, candidates=3)(model, x, labels, epsilons=EPS)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 255
    unit = model.transform_bounds((0, 1))
    torch.testing.assert_close(unit(x / 255), model(x), atol=1e-3, rtol=1e-3)
