"""What an interrupted test keeps, and what is not taken up again."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from tests.tiny import TINY, typed_config
from uap_lightning.data import EvaluationDataModule
from uap_lightning.detectors import DctSvm
from uap_lightning.jobs.stages import load_data_and_network
from uap_lightning.perturbations.sampling import draw_pairs
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.results.metrics import Outcomes
from uap_lightning.training.kept import KeptOutcomes, key_of
from uap_lightning.training.module import RectifierModule

FILE = Path("outcomes.safetensors")


def outcomes(count=8):
    return Outcomes(*(torch.arange(count) + n for n, _ in enumerate(fields(Outcomes))))


def test_what_is_kept_comes_back_to_the_image_asked_for():
    assert KeptOutcomes(FILE, "a").read(6) is None
    KeptOutcomes(FILE, "a").write(outcomes())
    found = KeptOutcomes(FILE, "a").read(6)
    for field in fields(Outcomes):
        assert torch.equal(getattr(found, field.name), getattr(outcomes(6), field.name))


@pytest.mark.parametrize("change", ["key", "cut", "version"])
def test_what_is_of_another_test_or_cut_short_is_not_taken(change):
    kept = KeptOutcomes(FILE, "a")
    kept.write(outcomes())
    if change == "key":
        kept = KeptOutcomes(FILE, "b")
    elif change == "cut":
        FILE.write_bytes(FILE.read_bytes()[:-3])
    else:
        FILE.write_bytes(FILE.read_bytes().replace(b"perturbation", b"perturbatiom"))
    assert kept.read(8) is None


def test_the_key_is_another_for_each_thing_that_an_outcome_depends_on():
    data, network = load_data_and_network(typed_config("craft", *TINY))
    torch.manual_seed(0)
    rectifier, detector = ResidualPRN(8, 2), DctSvm(32)
    module = RectifierModule(network, rectifier, detector, {})
    draw = draw_pairs(torch.rand(2, 3, 32, 32), len(data.test), 0)

    def key(draw=draw, crops=data.test, batch_size=4):
        return key_of(module, EvaluationDataModule(crops, draw, batch_size))

    keys = [key(), key(batch_size=8), key(crops=data.train)]
    keys.append(key(replace(draw, perturbations=draw.perturbations + 1)))
    keys.append(key(replace(draw, perturbation=1 - draw.perturbation)))
    keys.append(key(replace(draw, coin=1 - draw.coin)))
    assert key() == keys[0]
    with torch.no_grad():
        next(rectifier.parameters()).add_(1e-3)
        keys.append(key())
        detector.weight.add_(1e-3)
        keys.append(key())
    network.name = "other"
    keys.append(key())
    assert len(set(keys)) == len(keys) == 9
