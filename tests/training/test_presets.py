"""The loss of each trainable rectifier on real photographs and a real network, or its refusal."""

import csv
import json
from pathlib import Path

import pytest

from tests.tiny import composed
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.train import train

LEARN = ("prn_residual", "prn")
# As printed: batches of noise teach the network of section 4.1 nothing in so few steps.
FAIL = ("prn_printed", "prn_authors")
SMALL = (
    *("network=efficientnet_lite0", "data=photos", "data.resize=54", "data.crop=48"),
    *("data.train_crops=2", "data.craft_crops=1", "data.test_crops=1", "detector.max_images=20"),
    *("attack=random_signs", "bank.train=2", "bank.test=1", "bank.extended=4"),
    *("bank.min_fooling_ratio=0", "bank.max_cosine=1", "protocol=[a]", "callbacks=[]"),
    *("rectifier.training.epochs=-1", "rectifier.training.steps=100", "name=run"),
    *("rectifier.training.batch_size=2", "trainer.log_every_n_steps=1"),
    "rectifier.training.precision=32-true",
)


def losses():
    with Path("outputs/run/csv/metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.parametrize("rectifier", LEARN)
def test_a_presets_loss_falls_on_real_photographs(rectifier):
    # All perturbed: how many of so small a batch are would hide how the loss falls.
    learning = ("rectifier.training.perturbed_share=1", "rectifier.training.batch_size=4")
    given = [word for word in SMALL if not word.startswith("rectifier.training.batch_size")]
    train(composed("train", *given, f"rectifier={rectifier}", *learning))
    found = losses()
    assert len(found) == 100
    assert sum(found[-25:]) < 0.85 * sum(found[:25])


@pytest.mark.parametrize("rectifier", FAIL)
def test_a_preset_that_does_not_learn_is_stopped(rectifier):
    with pytest.raises(UapError, match=r"the training loss|at chance|not finite") as told:
        train(composed("train", *SMALL, f"rectifier={rectifier}"))
    content = json.loads(Path("outputs/run/results.json").read_text())
    assert (content["status"], content["reason"]) == ("failed", str(told.value))
    assert not Path("outputs/run/defense").exists()
