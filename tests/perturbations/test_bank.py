"""Opening a bank: what it says, what lies in it, and what does not fit."""

import copy
import dataclasses
import math

import pytest
import torch

from uap_lightning.attacks.filling import fill_bank
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_json
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import check_unseen, largest_cosine, open_bank
from uap_lightning.perturbations.listing import table_of
from uap_lightning.perturbations.record import Record, save_perturbation

RECORD = Record(
    network="mine",
    weights="0a",
    p="inf",
    eps=10.0,
    size=8,
    attack={"name": "signs"},
    seed=0,
    attempt=0,
    data="",
    passes=1.0,
    seconds=1.0,
    fooling_ratio=0.9,
    fooling_ratio_unseen=None,
    cosine=0.0,
    l2=1.0,
    linf=10.0,
    version="0",
)
DESCRIPTION = {
    "network": "mine",
    "weights": "0a",
    "p": "inf",
    "eps": 10.0,
    "size": 8,
    "photographs": ["a", "b", "c"],
}


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


@pytest.fixture
def folder(tmp_path):
    """A bank of two saturated perturbations, written by hand."""
    folder = tmp_path / "bank"
    for name, sign in (("train-0000", 1.0), ("test-0000", -1.0)):
        rho = torch.full((3, 8, 8), 10.0)
        rho[:, ::2] *= sign
        save_perturbation(folder / f"{name}.safetensors", rho, RECORD)
    write_json(folder / "bank.json", DESCRIPTION)
    return folder


def opened(folder):
    network = TargetNetwork(torch.nn.Identity(), "mine", [0.0] * 3, [1.0] * 3)
    network.digest = "0a"
    return open_bank(folder, network, Ball(math.inf, 10.0), 8)


def test_a_bank_written_by_hand_is_opened(folder):
    bank = opened(folder)
    assert (len(bank.train), len(bank.test)) == (1, 1)
    assert bank.photographs == ("a", "b", "c")


@pytest.mark.parametrize(
    ("rho", "said"),
    [
        (torch.full((3, 8, 8), math.nan), "expected finite float32"),
        (torch.full((3, 8, 8), math.inf), "expected finite float32"),
        (torch.full((3, 8, 8), 200.0), "8 x 8 pixels and norm 200: expected 8 x 8 and at most 10"),
        (torch.full((3, 6, 6), 9.0), "has 6 x 6 pixels"),
        (torch.full((3, 8, 6), 9.0), r"shape \(3, 8, 6\)"),
        (torch.full((3, 0, 0), 9.0), r"shape \(3, 0, 0\)"),
        (torch.full((1, 8, 8), 9.0), r"shape \(1, 8, 8\)"),
        (torch.tensor(9.0), r"shape \(\)"),
    ],
)
@pytest.mark.parametrize("name", ["train-0000", "test-0000"])
def test_an_array_that_does_not_belong_is_named(folder, rho, said, name):
    path = folder / f"{name}.safetensors"
    save_perturbation(path, rho, RECORD)
    with pytest.raises(UapError, match=f"{name}.safetensors .*{said}"):
        opened(folder)
    with pytest.raises(UapError, match=f"{name}.safetensors .*{said}"):
        table_of(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": "vgg16"}, "network vgg16: expected mine"),
        ({"weights": "ff"}, "weights ff: expected 0a"),
        ({"p": "2"}, "p 2: expected inf"),
        ({"eps": 8.0}, r"eps 8\.0: expected 10"),
        ({"size": 9}, "size 9: expected 8"),
        ({"network": "\x1b[31mred" + "x" * 500}, r"network redx{97}\.\.\.: expected"),
    ],
)
def test_a_record_of_another_bank_is_named(folder, change, said):
    rho = torch.full((3, 8, 8), 5.0)
    path = folder / "test-0000.safetensors"
    save_perturbation(path, rho, dataclasses.replace(RECORD, **change))
    with pytest.raises(UapError, match=f"test-0000.safetensors was made with {said}"):
        opened(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"eps": None}, r"bank\.json is not as it should be \(eps"),
        ({"eps": "ten"}, r"bank\.json .*\(eps"),
        ({"eps": -10}, r"bank\.json has eps -10"),
        ({"eps": 8}, r"eps is 8\.0: expected 10"),
        ({"size": 0}, r"bank\.json has .*size 0"),
        ({"size": 8.5}, r"bank\.json .*\(size"),
        ({"p": "1"}, r"bank\.json .*\(p"),
        ({"network": 3}, r"bank\.json .*\(network"),
        ({"photographs": "all"}, r"bank\.json .*\(photographs"),
        ({"photographs": [1]}, r"bank\.json .*\(photographs"),
    ],
)
def test_a_description_that_is_wrong_is_named(folder, content, said):
    write_json(folder / "bank.json", {**DESCRIPTION, **content})
    with pytest.raises(UapError, match=said):
        opened(folder)
    described = {key: value for key, value in DESCRIPTION.items() if key not in content}
    write_json(folder / "bank.json", described)
    if not content.keys() & {"photographs"}:
        with pytest.raises(UapError, match=f"{next(iter(content))}: Field required"):
            opened(folder)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"network": ' * 10_000, "null", "", "{"])
def test_json_that_is_none_is_named(folder, content):
    (folder / "bank.json").write_text(content)
    with pytest.raises(UapError, match=r"bank\.json"):
        opened(folder)
    with pytest.raises(UapError, match=r"bank\.json"):
        table_of(folder)


def test_photographs_that_were_crafted_on_are_counted(folder):
    bank = opened(folder)
    check_unseen(bank, ["d", "e"])
    with pytest.raises(UapError, match="crafted on 2 of the 3 test photographs"):
        check_unseen(bank, ["c", "d", "a"])
