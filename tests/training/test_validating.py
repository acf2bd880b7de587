"""The validation curve: what it counts, on what, when, and which rectifier is kept by it."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import QUICK_TRAIN, composed
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import CropDataset, TensorImages
from uap_lightning.detectors import DctSvm
from uap_lightning.jobs import train as job
from uap_lightning.perturbations.record import load_perturbation
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.training import validating
from uap_lightning.training.module import RectifierModule
from uap_lightning.training.validating import curve_of, validation_sums

SIGNS = ("attack=random_signs", "bank.min_fooling_ratio=0")  # crafted in no time
HELD = (*QUICK_TRAIN, *SIGNS, "data.validation_share=0.25", "protocol=[a]")
DRIFTS = (
    *HELD,
    "rectifier.model._target_=tests.training.failing.Drifting",
    *("~rectifier.model.width", "~rectifier.model.blocks", "+rectifier.model.rate='10'"),
    *(
        "rectifier.training.validate_every=5",
        "callbacks.checkpoint.every_n_train_steps=5",
        "callbacks.checkpoint.train_time_interval=null",
    ),
)


def points(folder="outputs/run"):
    """The curve that every CSV file of a run holds: step to its three values, in percent two."""
    found = {}
    for path in sorted(Path(folder, "csv").glob("metrics*.csv")):
        with path.open() as file:
            for row in csv.DictReader(file):
                if row.get("val/loss"):
                    names = ("val/loss", "val/restoration", "val/clean_kept")
                    found[int(row["step"]) + 1] = tuple(float(row[name]) for name in names)
    return found


def test_the_curve_is_what_counting_by_hand_gives(network, images, labels):
    torch.manual_seed(0)
    rectifier = ResidualPRN(8, 2)
    for parameter in rectifier.parameters():
        parameter.data.normal_(0, 0.2)
    module = RectifierModule(
        network,
        rectifier,
        DctSvm(32),
        condition={"train_network": "tiny"},
        cross_entropy=0.7,
        reconstruction=0.3,
    )
    crops = TensorImages(images.images[:30])
    crops.prediction = labels[:30]
    crops.label = torch.where(torch.arange(30) % 3 == 0, -1, (labels[:30] + 1).clamp(max=3))
    rho = 60 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).sign()
    numbers = torch.stack([torch.arange(30), torch.arange(30) % 2], dim=1)
    found = curve_of(validation_sums(module, crops, rho, numbers, 7), 30)

    rectifier.eval()
    loss, clean, kept, mixed = [], 0, 0, 0.0
    with torch.no_grad():
        for n in range(30):
            x = crops.images[n].double()
            truth = int(crops.label[n]) if n % 3 else int(crops.prediction[n])
            clean += int(crops.prediction[n]) == truth
            for given, share in ((x, 0), (x + rho[n % 2], 1)):
                rectified = rectifier(given.clamp(0, 255).float()[None])
                logits = network(rectified)[0].double()
                error = (rectified[0].double() - x) / 10
                cross = logits.exp().sum().log() - logits[crops.prediction[n]]
                loss.append(0.7 * cross + 0.3 * (error**2 + 0.01).sqrt().mean())
                right = int(logits.argmax()) == truth
                mixed += right / 2
                kept += right if share == 0 else 0
    assert 0 < kept < clean < 30
    assert found["val/loss"] == pytest.approx(float(sum(loss)) / 60, rel=1e-5)
    assert found["val/restoration"] == pytest.approx(100 * mixed / clean)
    assert found["val/clean_kept"] == pytest.approx(100 * kept / clean)
    assert module.rectifier.training is False


def test_a_network_that_is_never_right_has_no_curve():
    with pytest.raises(UapError, match="none of the 9 clean validation crops right"):
        curve_of(torch.zeros(5), 9)


def test_the_curve_sees_no_photograph_and_no_perturbation_of_another_use(monkeypatch):
    """And training, the detector and the test see none of its photographs."""
    phase, seen, rhos = ["other"], {}, []
    read, counted = CropDataset.pixels, validating.validation_sums

    def pixels(crops, number):
        name = crops.cache.contents[int(crops.photograph[number])]
        seen.setdefault(phase[-1], set()).add(name)
        return read(crops, number)

    def during(module, name, said):
        original = getattr(module, name)

        def noted(*given, **named):
            phase.append(said)
            if said == "validation":
                rhos.append(given[2])
            try:
                return original(*given, **named)
            finally:
                phase.pop()

        monkeypatch.setattr(module, name, noted)

    monkeypatch.setattr(CropDataset, "pixels", pixels)
    during(validating, "validation_sums", "validation")
    during(job, "find_bank", "craft")
    during(job, "fit", "train")
    during(job, "test", "test")
    # Enough steps for every training crop to come.
    job.train(composed("train", *HELD, "rectifier.training.steps=24"))
    split = json.loads(Path("outputs/run/split.json").read_text())
    lists = {use: set(split[use]) for use in ("train", "craft", "validation", "test")}
    assert {use: len(names) for use, names in lists.items()} == {
        # A quarter of 64 photographs is tested on, of the others a quarter is held out, and three
        # quarters of the rest are crafted on.
        **{"test": 16, "validation": 12, "train": 36, "craft": 27}
    }
    assert not lists["validation"] & (lists["train"] | lists["craft"] | lists["test"])
    assert len(seen["validation"]) == 12
    assert len(seen["test"]) == 16
    assert len(seen["train"]) == 36
    for use in ("craft", "train", "test"):
        assert not seen["validation"] & seen[use], use
    assert counted is not validating.validation_sums
    files = sorted(Path("banks").glob("*/*.safetensors"))
    own = [load_perturbation(file)[0] for file in files if file.name.startswith("train")]
    tested = [load_perturbation(file)[0] for file in files if file.name.startswith("test")]
    assert rhos
    for rho in rhos:
        assert torch.equal(rho[:2], torch.stack(own))
        assert not any(torch.equal(one, other) for one in rho for other in tested)
    # No later test may use what the curve, and with keep=best the rectifier, depends on.
    refused = json.loads(Path("outputs/run/defense/trained_on.json").read_text())["photographs"]
    assert seen["train"] | seen["validation"] == set(refused)


def test_points_come_at_each_epoch_or_as_asked_for_and_at_the_end():
    job.train(composed("train", *HELD, "rectifier.training.batch_size=8"))
    assert sorted(points()) == [9, 12]  # 36 photographs with two crops each
    words = ("rectifier.training.validate_every=5", "name=often")
    job.train(composed("train", *HELD, *words, output=Path("outputs/often")))
    assert sorted(points("outputs/often")) == [5, 10, 12]


def test_without_a_share_there_is_no_curve_and_nothing_is_held_out():
    job.train(composed("train", *QUICK_TRAIN, *SIGNS))
    assert points() == {}
    split = json.loads(Path("outputs/run/split.json").read_text())
    assert (len(split["train"]), split["validation"]) == (48, [])


@pytest.mark.parametrize(("keep", "step"), [("best", 5), ("last", 12)])
def test_the_best_rectifier_is_kept_on_request_also_after_an_interruption(monkeypatch, keep, step):
    """One that gets worse with each step: its first point is the best."""
    words = (*DRIFTS, f"rectifier.training.keep={keep}")
    job.train(composed("train", *words))
    curve = points()
    assert sorted(curve) == [5, 10, 12]
    assert curve[5][1] > curve[12][1]
    assert curve[5][0] < curve[10][0] < curve[12][0]
    assert load_file("outputs/run/defense/rectifier.safetensors")["steps"] == step
    rows = json.loads(Path("outputs/run/results.json").read_text())["rows"]

    original = RectifierModule.training_step

    def killed(module, batch, index):
        if module.trainer.global_step == 11:
            raise KeyboardInterrupt
        return original(module, batch, index)

    again = Path("outputs/again")
    monkeypatch.setattr(RectifierModule, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        job.train(composed("train", *words, output=again))
    monkeypatch.setattr(RectifierModule, "training_step", original)
    # The checkpoint is of a step with a point.
    last = torch.load(again / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 10
    job.train(composed("train", *words, output=again))
    assert points(again) == curve
    assert load_file(again / "defense" / "rectifier.safetensors")["steps"] == step
    assert json.loads((again / "results.json").read_text())["rows"] == rows


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rectifier.training.keep=best", r"keep is best and data\.validation_share is 0"),
        ("rectifier.training.keep=first", r"keep is first: expected last or best"),
        ("rectifier.training.validate_every=0", r"validate_every is 0"),
        ("data.validation_share=1", r"data\.validation_share is 1: expected a share"),
        ("data.validation_share=-0.1", r"data\.validation_share is -0\.1"),
        ("data.validation_share=0.99", "none to train on"),
    ],
)
def test_settings_that_give_no_curve_are_told_before_any_work(word, said):
    with pytest.raises(UapError, match=said):
        job.train(composed("train", *QUICK_TRAIN, word))
    assert not Path("banks").exists()
