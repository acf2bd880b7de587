"""Finding the bank of a config, and crafting it where it is missing."""

import json
import shutil
from pathlib import Path

import pytest

from tests.tiny import TINY, composed
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.stages import find_bank, load_data_and_network
from uap_lightning.results.file import read_results


def test_the_config_makes_or_names_the_bank():
    cfg = composed("craft", *TINY, "bank.train=1", "bank.test=1")
    data, network = load_data_and_network(cfg)
    bank = find_bank(cfg, data, network)
    for record in bank.records:
        assert record.fooling_ratio >= 0.8
        assert record.cosine <= 0.15
        assert record.fooling_ratio_unseen is not None
    named = composed("craft", *TINY, f"bank.path='{bank.folder}'")
    assert find_bank(named, data, network).digest == bank.digest


def test_a_finished_command_sees_that_its_bank_is_gone(caplog):
    cfg = composed("craft", *TINY, "bank.train=1", "bank.test=1")
    craft(cfg)
    digest = read_results(Path("outputs/run/results.json"))["digests"]["bank"]
    shutil.rmtree("banks")
    craft(cfg)
    assert len(list(Path("banks").glob("*/*.safetensors"))) == 2
    assert read_results(Path("outputs/run/results.json"))["digests"]["bank"] == digest
    with caplog.at_level("INFO"):
        craft(cfg)
    assert "The bank is complete" in caplog.text


def test_a_record_and_a_bank_hold_names_and_no_paths():
    cfg = composed("craft", *TINY, "bank.train=1", "bank.test=1", "attack.steps=40")
    data, network = load_data_and_network(cfg)
    bank = find_bank(cfg, data, network)
    settings = {"steps": 40, "batch_size": 8, "step_size": 0.2, "momentum": 0.9}
    assert all(record.attack == {"name": "cosine_uap", **settings} for record in bank.records)
    said = (bank.folder / "bank.json").read_text()
    assert json.loads(said)["attack"] == bank.records[0].attack
    assert "uap_lightning" not in said
    assert "_partial_" not in said


def test_test_photographs_that_were_crafted_on_are_refused():
    cfg = composed("craft", *TINY, "bank.train=1", "bank.test=1", "attack.steps=40")
    data, network = load_data_and_network(cfg)
    bank = find_bank(cfg, data, network)
    crafted = {photograph.identity for photograph in data.source().train}
    assert set(bank.photographs) < crafted
    named = composed("craft", *TINY, f"bank.path='{bank.folder}'")
    moved = list(bank.photographs)[:3]
    data.tested_on = {**data.tested_on, **dict.fromkeys(moved, "x")}
    expected = f"crafted on 3 of the {len(data.tested_on)} test photographs"
    with pytest.raises(UapError, match=expected):
        find_bank(named, data, network)
