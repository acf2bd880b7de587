"""A training that begins with the rectifier of another one."""

import json
from pathlib import Path

import pytest
import torch

from tests.jobs.made_banks import write_bank
from tests.tiny import QUICK_TRAIN, composed
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_tensors
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.jobs.train import train
from uap_lightning.perturbations.bank import identities

EARLIER = Path("outputs/run/defense")
START = f"rectifier.training.start={EARLIER}"
LATER = Path("outputs/later")
ONE_STEP = "rectifier.training.steps=1"
# So small a rate that the weights stay where they begin.
STILL = "rectifier.training.optimizer.lr=1e-12"


def with_bank(name, *words):
    """A training with a bank that is there already."""
    kept = [word for word in QUICK_TRAIN if not word.startswith("bank.")]
    bank = (f"bank.path={name}", "bank.train=1", "bank.test=1", "bank.extended=1")
    return composed("train", *kept, *bank, *words, output=LATER)


def trained_on(folder):
    return json.loads((folder / "trained_on.json").read_text())


def own_bank(name, trained=1, tested=2):
    """One perturbation to train with, one to test on, of these seeds."""
    one = write_bank(Path(name), network="tiny", seed=trained)
    write_bank(Path(name), network="tiny", part="test", seed=tested)
    return identities(one[None])[0]


def test_the_rectifier_begins_where_the_other_one_ended():
    train(composed("train", *QUICK_TRAIN))
    train(composed("train", *QUICK_TRAIN, START, ONE_STEP, STILL, output=LATER))
    train(composed("train", *QUICK_TRAIN, ONE_STEP, STILL, output=Path("outputs/fresh")))
    ended, begun, fresh = (
        read_tensors(folder / "rectifier.safetensors")[0]
        for folder in (EARLIER, LATER / "defense", Path("outputs/fresh/defense"))
    )
    assert all(torch.allclose(begun[key], ended[key], atol=1e-9) for key in ended)
    assert not all(torch.allclose(fresh[key], ended[key], atol=1e-9) for key in ended)
    assert load_defense(LATER / "defense").condition["start"] == load_defense(EARLIER).digest
    assert "start" not in load_defense(EARLIER).condition


def test_what_the_other_one_was_trained_on_may_not_be_tested_on():
    train(composed("train", *QUICK_TRAIN))
    before = trained_on(EARLIER)
    mine = own_bank("mine")
    train(with_bank("mine", START, ONE_STEP, "seed=3", "data.source.seed=0"))
    after = trained_on(LATER / "defense")
    assert set(after["perturbations"]) == {*before["perturbations"], mine}
    assert set(after["photographs"]) >= set(before["photographs"])
    assert before["perturbations"]
    assert mine not in before["perturbations"]


def test_a_perturbation_that_the_other_one_was_trained_with_is_not_tested_on():
    own_bank("first", trained=1, tested=2)
    own_bank("second", trained=3, tested=1)
    train(with_bank("first", ONE_STEP))
    (LATER).rename("outputs/run")
    with pytest.raises(UapError, match="was trained on 1 of the 1 test perturbations of second"):
        train(with_bank("second", START, ONE_STEP))


def test_a_photograph_that_the_other_one_was_trained_on_is_not_tested_on():
    train(composed("train", *QUICK_TRAIN))
    more = ("data.name=renamed", "data.source.test_share=0.5", ONE_STEP)
    expected = r"start: the defence was trained on \d+ of the 32 test photographs"
    with pytest.raises(UapError, match=expected):
        train(composed("train", *QUICK_TRAIN, START, *more, output=LATER))


def test_a_rectifier_that_is_built_otherwise_is_refused():
    train(composed("train", *QUICK_TRAIN))
    words = [word for word in QUICK_TRAIN if not word.startswith("rectifier")]
    for other in (["rectifier.model.width=5"], ["rectifier=unet", "rectifier.training.epochs=-1"]):
        with pytest.raises(UapError, match=r"start names .*, whose rectifier \(.*built as this"):
            train(composed("train", *words, *other, START, ONE_STEP, output=LATER))
    with pytest.raises(UapError, match=r"rectifier\.training\.start: .*nowhere"):
        train(composed("train", *QUICK_TRAIN, "rectifier.training.start=nowhere", output=LATER))
