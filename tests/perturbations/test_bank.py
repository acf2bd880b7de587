"""Opening a bank: what it says, what lies in it, and what does not fit."""

import copy
import dataclasses
import math

import pytest
import torch

from uap_lightning.attacks.filling import fill_bank
from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import largest_cosine, open_bank


def test_a_digest_tells_training_from_test_perturbations(tmp_path, recipe):
    bank = fill_bank(tmp_path, recipe, 2, 1)
    moved = dataclasses.replace(
        bank, train=bank.train[:1], test=torch.cat([bank.train[1:], bank.test])
    )
    assert moved.digest != bank.digest


@pytest.mark.parametrize(
    ("network", "weights", "norm", "size", "said"),
    [
        ("vgg16", None, Ball(math.inf, 10), 32, "whose network is tiny"),
        ("tiny", "0a1b", Ball(math.inf, 10), 32, "whose weights is .*expected 0a1b"),
        ("tiny", None, Ball(2, 10), 32, "whose p is inf"),
        ("tiny", None, Ball(math.inf, 8), 32, r"whose eps is 10\.0"),
        ("tiny", None, Ball(math.inf, 10), 64, "whose size is 32"),
    ],
)
def test_a_bank_of_another_network_norm_or_size_is_refused(
    tmp_path, recipe, network, weights, norm, size, said
):
    bank = fill_bank(tmp_path, recipe, 1, 1)
    opened = open_bank(bank.folder, recipe.network, recipe.norm, 32)
    assert opened.digest == bank.digest
    other = copy.copy(recipe.network)
    other.name, other.digest = network, weights or other.digest
    with pytest.raises(UapError, match=said):
        open_bank(bank.folder, other, norm, size)


def test_a_bank_that_is_not_there_or_not_full_is_told(tmp_path, recipe):
    with pytest.raises(UapError, match=r"bank\.json cannot be read"):
        open_bank(tmp_path, recipe.network, recipe.norm, 32)
    bank = fill_bank(tmp_path, recipe, 1, 1)
    (bank.folder / "test-0000.safetensors").unlink()
    with pytest.raises(UapError, match="1 training and 0 test"):
        open_bank(bank.folder, recipe.network, recipe.norm, 32)


def test_the_cosine_is_the_largest_absolute_one():
    a = torch.zeros(3, 2, 2)
    a[0, 0, 0] = 1
    b = torch.ones(3, 2, 2)
    assert largest_cosine(a, []) == 0
    assert largest_cosine(a, [b, -a]) == pytest.approx(1)
    assert largest_cosine(a, [-b]) == pytest.approx(1 / math.sqrt(12))
