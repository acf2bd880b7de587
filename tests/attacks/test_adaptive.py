"""The attack on the whole guard: each way does what it says, and the worst is returned."""

import math
import shutil

import pytest
import torch
from torch import nn

from tests.tiny import typed_config
from uap_lightning.attacks import adaptive_ways as module
from uap_lightning.attacks.adaptive import adaptive, fooling_of_guard
from uap_lightning.attacks.adaptive_ways import WAYS, Step
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.registry import recorded
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import TensorImages
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.config import build
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball

QUICK = {"steps": 12, "batch_size": 4}


@pytest.fixture
def guard(defense, network):
    found = load_defense(defense)
    return Guard(network, found.rectifier, found.detector).requires_grad_(False)


def test_the_worst_on_the_hard_guard_is_returned(defense, guard, network, images, labels, linf):
    given = (network, images, labels, linf, 3)
    found = adaptive(*given, defense=str(defense), restarts=5, **QUICK)
    each = [
        adaptive(*given, defense=str(defense), ways=[way], restarts=1, **QUICK).drawn
        for way in WAYS
    ]
    assert [drawn["way"] for drawn in each] == list(WAYS)
    told = found.drawn["fooling_of_guard"]
    # The first restart is the same alone; the others start elsewhere.
    assert told >= each[0]["fooling_of_guard"]
    # By the guard's own door, image by image.
    changed = 0
    for number in range(len(images)):
        image = (images.take([number]).float() + found.rho).round().clamp(0, 255).to(torch.uint8)
        changed += int(guard(image).argmax() != labels[number])
    assert told == pytest.approx(100 * changed / len(images))
    assert float(found.rho.abs().max()) <= 10 + 1e-4


def test_it_grows_with_the_radius_and_beats_transfer_and_signs(
    defense, guard, network, images, labels
):
    def fooled(eps):
        made = adaptive(
            *(network, images, labels, Ball(math.inf, eps), 0),
            defense=str(defense),
            restarts=5,
            steps=40,
            batch_size=8,
        )
        return made.drawn["fooling_of_guard"]

    small, middle, unbounded = fooled(2.0), fooled(16.0), fooled(254.0)
    assert small < middle
    # Without a bound one answer for all images: those that have it anyway are not fooled.
    most = 100 * float(torch.bincount(labels).max()) / len(labels)
    assert min(middle, unbounded) >= 100 - most - 5
    ball = Ball(math.inf, 16.0)
    transfer = cosine_uap(network, images, labels, ball, 0, steps=40).rho
    signs = 16 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0)).sign()
    for rho in (transfer, signs):
        assert middle >= fooling_of_guard(guard, images, labels, rho)


def step_of(guard, images, loss=None):
    perturbed = images.take(range(6)).float().requires_grad_()
    return Step(guard, perturbed, loss or (lambda logits: logits.square().mean()), 1.0, 2.0)


def test_the_ways_attack_what_they_say(guard, images):
    step = step_of(guard, images)
    with torch.no_grad():
        through, score = guard.rectify(step.perturbed)
        plain, mended = (guard.network(x).square().mean() for x in (step.perturbed, through))
        hard = torch.where((score > 0)[:, None, None, None], through, step.perturbed)
        gated = guard.network(hard).square().mean()
    price = 2 * (score + 0.5).clamp_min(0).mean()
    assert float(module.evade(step).detach()) == pytest.approx(float(plain + price), rel=1e-5)
    assert float(module.rectified(step).detach()) == pytest.approx(float(mended), rel=1e-5)
    assert float(module.straight_through(step).detach()) == pytest.approx(float(gated), rel=1e-5)
    # At the end of the annealing the gate is nearly hard.
    sharp = Step(guard, step.perturbed, step.loss, 1.0, 0.0)
    near = torch.sigmoid(score / 0.1)[:, None, None, None]
    mixed = guard.network(near * through + (1 - near) * step.perturbed).square().mean()
    assert float(module.annealed(sharp).detach()) == pytest.approx(float(mixed.detach()), rel=1e-5)


def test_the_orthogonal_step_leaves_the_other_part_as_it_is(guard, images):
    """By finite differences: along it the part that is not attacked stays still."""
    step = step_of(guard, images)
    (direction,) = torch.autograd.grad(module.orthogonal(step), step.perturbed)
    direction = direction[0]
    perturbed = step.perturbed.detach()
    score = guard.rectify(perturbed)[1]
    firing = float((score > -0.5).double().mean()) > 0.5

    def value(shift):
        images = (perturbed + shift).requires_grad_()
        kept = guard.network(images).square().mean() if firing else guard.rectify(images)[1].mean()
        (slope,) = torch.autograd.grad(kept, images)
        return slope.mean(0)

    slope = value(torch.zeros(3, 32, 32))
    cosine = torch.cosine_similarity(slope.flatten(), direction.flatten(), dim=0)
    assert abs(float(cosine)) < 1e-4
    assert float(direction.norm()) > 0


def test_a_network_without_gradient_is_said_not_scored(defense, images, linf):
    class Steps(nn.Module):
        def forward(self, x):
            return torch.stack([(x > 127.5 + k).float().mean((1, 2, 3)) for k in range(8)], 1)

    network = TargetNetwork(Steps(), "steps", [0.0] * 3, [1.0] * 3)
    labels = network.predict(images.images.float())
    with pytest.raises(UapError, match="zero on the network steps: no perturbation was searched"):
        adaptive(
            *(network, images, labels, linf, 0),
            defense=str(defense),
            ways=["rectified"],
            restarts=1,
            **QUICK,
        )


def test_the_record_tells_the_defence_and_not_where_it_lies(defense, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(defense, elsewhere)
    told = []
    for folder in (defense, elsewhere):
        words = ("network=tiny", "data=generated", "attack=adaptive", f"attack.defense={folder}")
        cfg = typed_config("craft", *words, "name=run")
        told.append(recorded(build(cfg.attack), cfg.attack))
    assert told[0] == told[1]
    assert told[0]["defense"] == load_defense(defense).digest
    assert told[0]["name"] == "adaptive"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ways": ["guess"]}, "attack.ways is"),
        ({"ways": []}, "attack.ways is"),
        ({"losses": ["none"]}, "attack.losses is"),
        ({"restarts": 0}, "attack.restarts is 0"),
    ],
)
def test_settings_out_of_range_are_named(defense, network, images, labels, linf, settings, said):
    with pytest.raises(UapError, match=said):
        adaptive(network, images, labels, linf, 0, defense=str(defense), **settings)


def test_a_defence_of_another_size_is_refused(defense, network, linf):
    images = TensorImages(torch.zeros(4, 3, 40, 40, dtype=torch.uint8))
    with pytest.raises(UapError, match="trained on images of side 32: expected 40"):
        adaptive(network, images, torch.zeros(4).long(), linf, 0, defense=str(defense))
