"""A descent that ends early: when enough images are fooled, or when nothing more is gained."""

import pytest
import torch

from uap_lightning.attacks import stopping as module
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.flat_uap import flat_uap
from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.attacks.stopping import stopping
from uap_lightning.core.errors import UapError


@pytest.mark.parametrize("attack", [cosine_uap, flat_uap])
def test_it_ends_at_the_first_look_that_fools_enough(network, images, labels, linf, attack):
    whole = attack(network, images, labels, linf, 0, steps=60, batch_size=16)
    assert whole.passes == 60 * 16 / len(images)
    stopped = attack(network, images, labels, linf, 0, steps=60, batch_size=16, stop_at=0.3)
    steps = stopped.passes * len(images) / 16
    assert steps % module.EVERY == 0
    assert steps < 60
    assert fooling_ratio(network, images, labels, stopped.rho) > 0.2
    never = attack(network, images, labels, linf, 0, steps=60, batch_size=16, patience=60)
    assert torch.equal(never.rho, whole.rho)


def told(monkeypatch, network, images, labels, ratios, **settings):
    """The number of looks until it stops, where the looks find these ratios."""
    left = iter(ratios)
    seen = []

    def ratio(network, sample, known, rho):
        seen.append((len(sample), known))
        return next(left)

    monkeypatch.setattr(module, "fooling_ratio", ratio)
    stop = stopping(network, images, labels, **settings)
    for step in range(10 * len(ratios)):
        if stop(step, torch.zeros(3, 32, 32)):
            break
    assert all(size == min(64, len(images)) == len(known) for size, known in seen)
    return len(seen)


def test_patience_counts_looks_without_a_higher_ratio(monkeypatch, network, images, labels):
    ratios = [0.1, 0.3, 0.2, 0.4, 0.4, 0.3, 0.9]
    told_of = (monkeypatch, network, images, labels, ratios)
    assert told(*told_of, stop_at=None, patience=1) == 3
    assert told(*told_of, stop_at=None, patience=2) == 6
    assert told(*told_of, stop_at=None, patience=3) == 7
    assert told(*told_of, stop_at=0.35, patience=3) == 4
    assert told(*told_of, stop_at=1.0, patience=None) == 7


def test_the_images_looked_at_are_spread_and_known_by_their_own_predictions(
    monkeypatch, network, images, labels
):
    """With no perturbation nothing is fooled, so a wrong pairing would show."""
    monkeypatch.setattr(module, "LOOKED_AT", 7)
    seen = []

    def ratio(network, sample, known, rho):
        seen.append(list(sample.numbers))
        return fooling_ratio(network, sample, known, rho)

    monkeypatch.setattr(module, "fooling_ratio", ratio)
    stop = stopping(network, images, labels, 0.01, None)
    assert not stop(9, torch.zeros(3, 32, 32))
    [numbers] = seen
    assert len(set(numbers)) == 7
    assert numbers[0] == 0
    assert max(numbers) > 0.8 * len(images)


def test_without_either_all_steps_are_made(network, images, labels):
    assert stopping(network, images, labels, None, None) is None


@pytest.mark.parametrize(("stop_at", "patience"), [(0.0, None), (1.5, None), (None, 0)])
def test_settings_out_of_range_are_refused(network, images, labels, stop_at, patience):
    with pytest.raises(UapError, match=r"attack has (stop_at|patience)"):
        stopping(network, images, labels, stop_at, patience)
