"""The attacks by name: the configs name them, and no record holds a path."""

import json
from functools import partial
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.registry import ATTACKS, recorded
from uap_lightning.jobs.config import find_conf

FILES = sorted(Path(find_conf(), "attack").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_config_is_called_as_its_attack(file):
    content = yaml.safe_load(file.read_text())
    assert content["name"] == file.stem
    assert get_object(content["_target_"]) is ATTACKS[file.stem]


def test_every_attack_has_a_config():
    assert {file.stem for file in FILES} == set(ATTACKS)


def test_a_record_has_the_name_and_the_arguments():
    config = {"name": "mine", "_target_": "uap_lightning.attacks.cosine_uap.cosine_uap"}
    config |= {"_partial_": True, "steps": 9}
    assert recorded(partial(cosine_uap, steps=9), config) == {"name": "cosine_uap", "steps": 9}


def test_an_attack_of_ones_own_is_told_from_ours():
    def strong_uap():
        pass

    config = {"name": "cosine_uap", "_target_": "a.package.strong_uap", "steps": 9}
    own = recorded(partial(strong_uap, steps=9), config)
    assert own == {"name": "cosine_uap", "function": "strong_uap", "steps": 9}
    assert "package" not in json.dumps(own)
