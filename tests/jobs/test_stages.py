"""Finding the bank of a config, and crafting it where it is missing."""

import shutil
from pathlib import Path

from tests.tiny import TINY, composed
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
