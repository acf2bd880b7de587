"""What an experiment compares, and what it costs."""

import shutil

import pytest
import torch

from experiments.defenses import Entry, cost, entries
from uap_lightning.core.errors import UapError
from uap_lightning.detectors import NoDetector
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.rectifiers import ResidualPRN


def test_entries_are_folders_and_registered_names(defense):
    defense = str(defense)
    folder, filtered = entries([defense], ["median"], 32)
    assert (folder.name, filtered.name) == ("prn_residual, tiny, linf", "median")
    assert folder.digest == load_defense(defense).digest
    with pytest.raises(UapError, match=r"of side 32 and data\.crop is 64"):
        entries([defense], [], 64)
    with pytest.raises(UapError, match="'none' is no rectifier"):
        entries([], ["none"], 32)
    with pytest.raises(UapError, match="called alike"):
        entries([defense, defense], [], 32)


def test_a_defence_may_be_called_something_else(defense, tmp_path):
    """Folders of sweeps have equals signs in their names as well."""
    swept = tmp_path / "lr=0.1-seed=2" / "defense"
    shutil.copytree(defense, swept)
    own, named, both = entries([str(defense), f"mine={defense}", f"its={swept}"], [], 32)
    assert own.name == "prn_residual, tiny, linf"
    assert named.name == "mine"
    assert named.digest == own.digest == both.digest
    assert both.name == "its"
    assert entries([str(swept)], [], 32)[0].name == own.name
    with pytest.raises(UapError, match=r"nowhere"):
        entries(["mine=nowhere"], [], 32)


def test_the_cost_is_that_of_the_convolutions():
    rectifier = ResidualPRN(8, 2)
    found = cost(Entry("x", rectifier, NoDetector()), 32)
    sums = []
    hooks = [
        layer.register_forward_hook(
            lambda layer, _, made: sums.append(layer.weight[0].numel() * made.numel())
        )
        for layer in rectifier.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    rectifier(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    expected = sum(sums) / 1e9
    assert found.gmac == pytest.approx(expected)
