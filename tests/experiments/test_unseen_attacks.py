"""The unseen matrix on images, patterns and guards whose answers are known."""

from dataclasses import replace

import pytest
import torch

from experiments import stream, unseen_attacks
from experiments.defenses import Entry
from experiments.stream_setting import Setting, answers
from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.detectors import DctSvm, NoDetector
from uap_lightning.networks.tiny import tiny
from uap_lightning.perturbations.bank import identities
from uap_lightning.rectifiers import Identity
from uap_lightning.streams.whitening import Whitener


def pattern():
    return 10 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0)).sign()


@pytest.fixture(scope="module")
def setting():
    images = scenes(60, seed=2)
    whitener = Whitener(64).fit(scenes(120, seed=1))
    label = answers(tiny(), scenes(60, seed=2).float())
    label[::7] = (label[::7] + 1) % 8  # the network is not always right
    return Setting(
        tiny(), whitener, images, label, {"a": (pattern(), "inf"), "b": (-pattern(), "2")}, None
    )


def entry_of(rectifier, detector, known=()):
    return Entry("an entry", rectifier, detector, frozenset(known))


class Undo(torch.nn.Module):
    def forward(self, images):
        return images - pattern()


def test_what_does_nothing_keeps_the_floor(setting):
    cells = unseen_attacks.row(setting, entry_of(Identity(), DctSvm(64)), [1.0, 2.5])
    assert [(c.pattern, c.strength) for c in cells] == [("a", 1.0), ("a", 2.5), ("b", 1.0)]
    network, truth = setting.network, setting.label
    right = network.predict(setting.images.float()) == truth
    for cell, rho in zip(cells, (pattern(), 2.5 * pattern(), -pattern()), strict=True):
        given = (setting.images.float() + rho).round().clamp(0, 255)
        left = network.predict(given) == truth
        # As protocol A counts with every image once clean and once perturbed.
        floor = 100 * float(right.sum() + left.sum()) / float(2 * right.sum())
        assert cell.rate == cell.floor == pytest.approx(floor)
        assert cell.ci95[0] <= cell.rate <= cell.ci95[1]
        assert (cell.clean, cell.false_alarms) == (100, 0)
        assert cell.n_photographs == 60


def test_what_undoes_one_pattern_always_spoils_clean_images(setting):
    cells = unseen_attacks.row(setting, entry_of(Undo(), NoDetector()), [1.0])
    first, network, truth = cells[0], setting.network, setting.label
    right = network.predict(setting.images.float()) == truth
    undone = (setting.images.float() + pattern()).round().clamp(0, 255) - pattern()
    kept = network.predict(setting.images.float() - pattern()) == truth
    mended = network.predict(undone) == truth
    assert first.clean == pytest.approx(100 * float(kept.sum() / right.sum()))
    assert first.perturbed == pytest.approx(100 * float(mended.sum() / right.sum()))
    assert first.rate == pytest.approx((first.clean + first.perturbed) / 2)
    assert (first.detected, first.false_alarms) == (100, 100)


def test_the_memory_has_rows_of_its_own_and_empty_cells_stay_empty(setting, monkeypatch):
    monkeypatch.setattr(stream, "LEARN", 40)
    cells = unseen_attacks.row(setting, entry_of(Identity(), DctSvm(64)), [2.0])
    rows = unseen_attacks.memory_rows(setting, [1.0], (4, 16))
    assert [(c.pattern, c.seen) for c in rows] == [("a", 4), ("a", 16), ("b", 4), ("b", 16)]
    assert all(c.rate == pytest.approx(50 + c.perturbed / 2) for c in rows)
    assert all(c.n_photographs == 20 for c in rows)
    lines = unseen_attacks.markdown(cells + rows).splitlines()
    assert lines[0].endswith("| an entry | memory, after 4 | memory, after 16 |")
    strong = next(line for line in lines if line.startswith("| a | 2 |"))
    assert strong.endswith("|  |  |")
    figure = unseen_attacks.heat_map(cells + rows)
    drawn = {text.get_position() for text in figure.axes[0].texts}
    # Three lines of a floor and three columns; the strong pattern has one cell and its floor.
    assert len(drawn) == 3 * 4 - 2 - 1


def test_photographs_it_was_trained_on_are_counted(setting):
    tested = replace(setting, tested_on={"x": "one.png", "y": "two.png", "z": "three.png"})
    with pytest.raises(UapError, match=r"trained on 2 of the 3 test photographs \(such as two"):
        unseen_attacks.row(tested, entry_of(Identity(), DctSvm(64), {"y", "z"}), [1.0])


def test_what_it_was_trained_on_is_refused(setting):
    seen = identities(-pattern()[None])
    with pytest.raises(UapError, match="an entry was trained on b"):
        unseen_attacks.row(setting, entry_of(Identity(), DctSvm(64), seen), [1.0])
