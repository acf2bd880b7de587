"""The stages that commands share."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.tiny import QUICK_TRAIN, TINY, composed, typed_config
from uap_lightning.attacks.fooling import clean_predictions
from uap_lightning.core.errors import UapError
from uap_lightning.jobs import stages
from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.evaluate import evaluate
from uap_lightning.jobs.stages import (
    build_trainer,
    check_labels,
    find_bank,
    load_data_and_network,
    predicted,
)
from uap_lightning.jobs.train import train
from uap_lightning.networks import TargetNetwork
from uap_lightning.results.file import read_results


class Centre(nn.Module):
    """Says the colour of one pixel; which one is no weight."""

    def __init__(self, row):
        super().__init__()
        self.row = row

    def extra_repr(self):
        return f"row={self.row}"

    def forward(self, x):
        return x[:, :, self.row, 0]


def test_predictions_are_kept_for_each_network_alone():
    data, _ = load_data_and_network(typed_config("craft", *TINY))
    wrapped = [
        TargetNetwork(Centre(row), name, [0.0] * 3, [1.0] * 3)
        for name, row in (("one", 0), ("one", 31), ("other", 0))
    ]
    # No weights at all: the digests of all three are the same.
    assert len({network.digest for network in wrapped}) == 1
    for network in wrapped:
        images = torch.stack([data.test.pixels(n) for n in range(len(data.test))]).float()
        expected = images[:, :, network.model.row, 0].argmax(1)
        for _ in range(2):
            assert torch.equal(predicted(network, data.test, data.cache_dir).prediction, expected)
    assert len(list(data.cache_dir.glob("predictions-*"))) == 2 + 3


def test_only_the_parts_that_a_command_needs_are_predicted():
    """Five crops of each training photograph take minutes, and crafting does not ask for them."""
    data, network = load_data_and_network(typed_config("craft", *TINY), needed=("test",))
    assert torch.equal(data.test.prediction, clean_predictions(network, data.test))
    assert (data.train.prediction == -1).all()
    assert len(list(data.cache_dir.glob("predictions-*"))) == 1


def kept(*words):
    """How many predictions lie in the cache, before and after the training crops are asked for."""
    cache = Path("cache")
    before = len(list(cache.glob("predictions-*")))
    load_data_and_network(typed_config("craft", *words), needed=("train",))
    return before, len(list(cache.glob("predictions-*")))


def test_crafting_and_testing_classify_no_training_crops():
    words = [word for word in QUICK_TRAIN if word.startswith(("network", "data", "bank", "name"))]
    craft(composed("craft", *words, output=Path("outputs/craft")))
    crafted_on, with_training = kept(*words)
    assert (crafted_on, with_training) == (2, 3)
    train(composed("train", *QUICK_TRAIN, output=Path("outputs/run")))
    shutil.rmtree("cache")
    told = ["defense=outputs/run/defense", *words]
    evaluate(composed("evaluate", *told, output=Path("outputs/evaluate")))
    # The test crops, and what the bank was looked up by.
    tested_on, with_training = kept(*words)
    assert (tested_on, with_training) == (3, 4)


def test_predictions_go_on_where_they_were_stopped(monkeypatch):
    data, network = load_data_and_network(typed_config("craft", *TINY))
    for file in data.cache_dir.glob("predictions-*"):
        file.unlink()
    wanted = clean_predictions(network, data.train)
    monkeypatch.setattr(stages, "_BLOCK", 16)
    asked = []

    def counted(network, images):
        if len(asked) == 2:
            asked.append(None)
            raise KeyboardInterrupt
        asked.append(len(images))
        return clean_predictions(network, images)

    monkeypatch.setattr(stages, "clean_predictions", counted)
    with pytest.raises(KeyboardInterrupt):
        predicted(network, data.train, data.cache_dir)
    assert [file.suffix for file in data.cache_dir.glob("predictions-*")] == [".part"]
    assert torch.equal(predicted(network, data.train, data.cache_dir).prediction, wanted)
    assert sum(filter(None, asked)) == len(data.train) > 32
    assert [file.suffix for file in data.cache_dir.glob("predictions-*")] == [".safetensors"]


def test_labels_of_another_network_are_refused():
    data, network = load_data_and_network(typed_config("craft", *TINY))
    check_labels(data, network)
    other = copy.copy(network)
    other.classes = lambda size: 3
    with pytest.raises(UapError, match="have class 7 and the network tiny has 3 classes"):
        check_labels(data, other)


@pytest.mark.parametrize(
    "setting",
    ["trainer.devices=0", "trainer.devices=-3", "trainer.devices=foo", "+trainer.strategy=none"],
)
def test_what_lightning_refuses_is_told_in_a_sentence(setting):
    with pytest.raises(UapError, match="Trainer cannot be made of its settings"):
        build_trainer(typed_config("train", *QUICK_TRAIN, setting))


@pytest.mark.parametrize(
    ("native", "precision", "told"),
    [(False, "bf16-mixed", True), (True, "bf16-mixed", False), (False, "auto", False)],
)
def test_bf16_on_a_processor_without_it_is_told(native, precision, told, monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    words = ("rectifier=prn_residual", f"rectifier.training.precision={precision}")
    cfg = typed_config("train", *QUICK_TRAIN, *words)
    trainer = build_trainer(cfg, training=cfg.rectifier.training, crops=8)
    assert trainer.precision == ("bf16-mixed" if precision == "bf16-mixed" else "32-true")
    assert ("has no instructions for bf16" in caplog.text) is told


def test_the_config_makes_or_names_the_bank():
    cfg = typed_config("craft", *TINY, "bank.train=1", "bank.test=1")
    data, network = load_data_and_network(cfg)
    bank = find_bank(cfg, data, network)
    for record in bank.records:
        assert record.fooling_ratio >= 0.8
        assert record.cosine <= 0.15
        assert record.fooling_ratio_unseen is not None
    named = typed_config("craft", *TINY, f"bank.path='{bank.folder}'")
    assert find_bank(named, data, network).digest == bank.digest


def test_a_finished_command_sees_that_its_bank_is_gone(caplog):
    cfg = composed("craft", *TINY, "bank.train=1", "bank.test=1")
    craft(cfg)
    digest = read_results(Path("outputs/run/results.json")).digests["bank"]
    shutil.rmtree("banks")
    craft(cfg)
    assert len(list(Path("banks").glob("*/*.safetensors"))) == 2
    assert read_results(Path("outputs/run/results.json")).digests["bank"] == digest
    with caplog.at_level("INFO"):
        craft(cfg)
    assert "The bank is complete" in caplog.text


def test_a_record_and_a_bank_hold_names_and_no_paths():
    cfg = typed_config("craft", *TINY, "bank.train=1", "bank.test=1", "attack.steps=40")
    data, network = load_data_and_network(cfg)
    bank = find_bank(cfg, data, network)
    settings = {"steps": 40, "batch_size": 8, "step_size": 0.2, "momentum": 0.9}
    unset = {"stop_at": None, "patience": None}
    expected = {"name": "cosine_uap", **settings, **unset}
    assert all(record.attack == expected for record in bank.records)
    said = (bank.folder / "bank.json").read_text()
    assert json.loads(said)["attack"] == bank.records[0].attack
    assert "uap_lightning" not in said
    assert "_partial_" not in said


def test_test_photographs_that_were_crafted_on_are_refused():
    cfg = typed_config("craft", *TINY, "bank.train=1", "bank.test=1", "attack.steps=40")
    data, network = load_data_and_network(cfg)
    bank = find_bank(cfg, data, network)
    assert set(bank.photographs) < set(data.trained_on)
    named = typed_config("craft", *TINY, f"bank.path='{bank.folder}'")
    moved = list(bank.photographs)[:3]
    data = replace(data, tested_on={**data.tested_on, **dict.fromkeys(moved, "x")})
    expected = f"crafted on 3 of the {len(data.tested_on)} test photographs"
    with pytest.raises(UapError, match=expected):
        find_bank(named, data, network)


def test_lightning_does_not_split_the_parts_again_that_processes_have():
    trainer = build_trainer(typed_config("train", *QUICK_TRAIN))
    assert trainer._accelerator_connector.use_distributed_sampler is False
