"""The attacks by name: the configs name them, and no record holds a path."""

import json
from functools import partial
from pathlib import Path

from hydra.utils import get_object

from tests.tiny import composed
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.registry import ATTACKS, recorded
from uap_lightning.jobs.config import find_conf

FILES = sorted(file.stem for file in Path(find_conf(), "attack").glob("*.yaml"))


def test_every_config_is_called_as_its_attack():
    found = {file: composed("craft", f"attack={file}").attack for file in FILES}
    for file, attack in found.items():
        assert attack.name == file
        # A longer form of an attack has a name of its own, for the folders of its runs.
        assert get_object(attack["_target_"]) is ATTACKS[file.removesuffix("_long")], file
    assert set(ATTACKS) < set(found)


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
