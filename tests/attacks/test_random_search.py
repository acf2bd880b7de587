"""The search without gradients asks for logits alone, keeps what helps, and meets the guard."""

import math

import pytest
import torch

from tests.tiny import convolutional, scenes
from uap_lightning.attacks import random_search as module
from uap_lightning.attacks.random_search import random_search
from uap_lightning.attacks.registry import recorded
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import TensorImages
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.guard.guard import Guard
from uap_lightning.perturbations.ball import Ball

LINF = Ball(math.inf, 8.0)


def mean_margin(answer, images, labels, rho):
    """By hand: the label's logit less the largest of the others, image by image."""
    total = 0.0
    for image, label in zip(images, labels.tolist(), strict=True):
        with torch.no_grad():
            logits = answer((image[None].float() + rho).round().clamp(0, 255))[0].tolist()
        total += logits[label] - max(v for k, v in enumerate(logits) if k != label)
    return total / len(images)


@pytest.mark.parametrize("norm", [LINF, Ball(2.0, 300.0)])
def test_it_takes_the_best_pattern_and_what_lowers_the_margin_further(norm, monkeypatch):
    network, images = convolutional(), TensorImages(scenes(12, 32, seed=1))
    labels = network.predict(images.images.float())
    given = (network, images, labels, norm, 3)
    made = []
    original = module.procedural
    monkeypatch.setattr(module, "procedural", lambda *a: made.append(original(*a)) or made[-1])
    seen = []
    hook = network.register_forward_hook(lambda _, inputs, answer: seen.append(inputs[0]))
    first = random_search(*given, candidates=10, steps=0, judged=12)
    hook.remove()
    assert all(torch.equal(x, x.round().clamp(0, 255)) for x in seen)  # as a service receives them
    patterns = norm.eps * norm.normalise(made[0])
    margins = [mean_margin(network, images.images, labels, rho) for rho in patterns]
    assert torch.equal(first.rho, patterns[margins.index(min(margins))])
    assert first.passes == pytest.approx(10)
    found = random_search(*given, candidates=10, steps=60, judged=12)
    assert mean_margin(network, images.images, labels, found.rho) < min(margins)
    assert float(norm.size(found.rho)) <= norm.eps * (1 + 1e-5)
    assert found.passes == pytest.approx(70)
    again = random_search(*given, candidates=10, steps=60, judged=12)
    assert torch.equal(found.rho, again.rho)


def test_it_asks_the_whole_guard_where_a_defence_is_named(defense, network, images, labels, linf):
    folder = load_defense(defense)
    guard = Guard(network, folder.rectifier, folder.detector)
    given = (network, images, labels, linf, 0)
    few = images.take(range(16))

    def answer(x):
        return guard.judge(x).logits

    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:16].tolist()
    few = images.take(chosen)
    wanted = labels[chosen]
    against = random_search(*given, defense=str(defense), candidates=8, steps=30, judged=16)
    bare = random_search(*given, candidates=8, steps=30, judged=16)
    margins = [mean_margin(answer, few, wanted, found.rho) for found in (against, bare)]
    assert margins[0] < margins[1]
    settings = {"name": "random_search", "defense": str(defense)}
    assert recorded(random_search, settings)["defense"] == folder.digest
    assert recorded(random_search, {**settings, "defense": None})["defense"] is None
    with pytest.raises(UapError, match=r"attack.defense is .*trained on images of side 32"):
        random_search(
            *(network, TensorImages(scenes(4, 48)), labels[:4], linf, 0), defense=str(defense)
        )


@pytest.mark.parametrize("setting", [{"candidates": 0}, {"steps": -1}, {"judged": 0}])
def test_settings_out_of_range_are_named(setting):
    images = TensorImages(scenes(4, 32, seed=1))
    with pytest.raises(UapError, match=next(iter(setting))):
        random_search(convolutional(), images, torch.zeros(4).long(), LINF, 0, **setting)
