"""What training, the detector and the test are given: every crop and every perturbation is seen."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.tiny import QUICK_TRAIN, composed, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.data import module as data_module
from uap_lightning.data.crops import CropDataset
from uap_lightning.data.module import EvaluationDataModule
from uap_lightning.jobs import train as job
from uap_lightning.jobs.evaluate import evaluate
from uap_lightning.perturbations.record import load_perturbation
from uap_lightning.perturbations.sampling import PerturbationSampler
from uap_lightning.training import callbacks, fitting
from uap_lightning.training.fitting import DetectorSample
from uap_lightning.training.module import RectifierModule


class Spy:
    """Notes by phase the photographs that crops are read of, and what is added to them."""

    def __init__(self, monkeypatch):
        self.phase = "other"
        self.photographs = {}
        self.added = {}
        self.coins = {}
        self.inputs = 0
        pixels, sample = CropDataset.pixels, PerturbationSampler.__call__
        transfer, step = EvaluationDataModule.on_after_batch_transfer, RectifierModule.training_step

        def read(crops, number):
            seen = self.photographs.setdefault(self.phase, set())
            seen.add((id(crops.cache), int(crops.photograph[number])))
            return pixels(crops, number)

        def sampled(sampler, images, *rest):
            given, coin = sample(sampler, images, *rest)
            self.coins.setdefault(self.phase, []).extend(coin.tolist())
            for image, result in zip(images, given, strict=True):
                # On the dark side nothing is clipped: what was added can be read off.
                self.added.setdefault(self.phase, []).append((image, result, sampler))
            return given, coin

        def drawn(data, batch, index):
            result = transfer(data, batch, index)
            self.added.setdefault(self.phase, []).extend(result["rho"])
            return result

        def stepped(module, batch, index):
            self.inputs += len(batch["input"])
            return step(module, batch, index)

        monkeypatch.setattr(CropDataset, "pixels", read)
        monkeypatch.setattr(PerturbationSampler, "__call__", sampled)
        monkeypatch.setattr(EvaluationDataModule, "on_after_batch_transfer", drawn)
        monkeypatch.setattr(RectifierModule, "training_step", stepped)
        for module, name, phase in (
            (job, "fit", "fit"),
            (job, "fit_on_crops", "detector"),
            (callbacks, "fit_on_crops", "detector"),
            (job, "test", "test"),
        ):
            self.during(monkeypatch, module, name, phase)

    def during(self, monkeypatch, module, name, phase):
        original = getattr(module, name)

        def noted(*given, **named):
            before, self.phase = self.phase, phase
            try:
                return original(*given, **named)
            finally:
                self.phase = before

        monkeypatch.setattr(module, name, noted)

    def names(self, phase):
        return {number for _, number in self.photographs[phase]}


def members(part):
    """The perturbations of the bank's files, as bytes."""
    files = sorted(Path("banks").glob(f"*/{part}-*.safetensors"))
    return [load_perturbation(file)[0] for file in files]


def is_one_of(added, rhos):
    """Whether clamp(I + rho) is the result for one of the perturbations."""
    image, result, _ = added
    return any(torch.equal((image + rho).clamp(0, 255), result) for rho in rhos)


@pytest.mark.parametrize(
    "more", [["rectifier.training.vary=false"], ["rectifier=gaussian"]], ids=["trained", "filter"]
)
def test_each_stage_sees_its_own_photographs_and_perturbations(monkeypatch, more):
    spy = Spy(monkeypatch)
    words = [w for w in QUICK_TRAIN if more[0] != "rectifier=gaussian" or "rectifier" not in w]
    job.train(composed("train", *words, *more, "detector.perturbed_share=0.5"))
    split = json.loads(Path("outputs/run/split.json").read_text())
    count = {use: len(split[use]) for use in ("train", "test")}
    assert not set(split["train"]) & set(split["test"])
    # The cache numbers photographs as they are given: training ones first.
    train, test = set(range(count["train"])), set(range(count["train"], sum(count.values())))
    own, unseen = members("train"), members("test")
    assert (len(own), len(unseen)) == (2, 1)

    trained = ["detector"] if more == ["rectifier=gaussian"] else ["fit", "detector"]
    for phase in trained:
        assert spy.names(phase) <= train
        perturbed = [a for a in spy.added[phase] if not torch.equal(a[0], a[1])]
        assert perturbed
        known = perturbed[0][2].perturbations
        # P* begins with the bank's training perturbations, and holds no test perturbation.
        assert torch.equal(known[:2], torch.stack(own))
        assert len(known) == 4
        assert not any(torch.equal(rho, other) for rho in known for other in unseen)
        assert all(is_one_of(added, known) for added in perturbed)
    assert spy.names("detector") & train
    assert spy.names("test") == test
    assert len(spy.added["test"]) == 2 * count["test"]
    assert all(torch.equal(rho, unseen[0]) for rho in spy.added["test"])
    assert spy.inputs == (0 if more == ["rectifier=gaussian"] else len(spy.coins["fit"]))


def test_the_detector_learns_from_members_at_its_own_share(monkeypatch):
    """Relatives, which training draws, may be weakened; the detector is not to learn from them."""
    spy = Spy(monkeypatch)
    words = ("detector.max_images=400", "detector.perturbed_share=0.3")
    relatives = ("rectifier.training.vary=true", "rectifier.training.strengths=[0.4,2.5]")
    job.train(composed("train", *QUICK_TRAIN, *words, *relatives))
    coins = spy.coins["detector"]
    assert len(coins) == 400
    # Five deviations of a binomial of 400 around 0.3; training's share is 0.75.
    assert abs(sum(coins) / 400 - 0.3) < 5 * (0.3 * 0.7 / 400) ** 0.5
    known = spy.added["detector"][0][2].perturbations
    perturbed = [a for a in spy.added["detector"] if not torch.equal(a[0], a[1])]
    assert all(is_one_of(added, known) for added in perturbed)
    in_training = [a for a in spy.added["fit"] if not torch.equal(a[0], a[1])]
    assert not all(is_one_of(added, known) for added in in_training)


def test_the_sample_of_the_detector_is_the_configs():
    words = ("detector.harmless=0.2", "detector.false_alarms=0.05", "detector.perturbed_share=0.4")
    cfg = typed_config("train", *QUICK_TRAIN, *words, "rectifier.training.recolour=0.6")
    sample = job.detector_sample(cfg, SimpleNamespace(validation="held", batch_size=4))
    assert sample == DetectorSample(40, 0.4, 4, cfg.seed, 0.05, "held", 0.2, 0.6)


def test_other_colours_are_drawn_in_training_and_for_the_detector_and_not_in_the_test(monkeypatch):
    spy, seen = Spy(monkeypatch), []

    def inverted(images, draws, share):
        assert draws.shape == (len(images), 5)
        seen.extend([(spy.phase, share)] * len(images))
        return 255 - images

    for module in (data_module, fitting):
        monkeypatch.setattr(module, "recoloured", inverted)
    job.train(composed("train", *QUICK_TRAIN, "rectifier.training.recolour=0.6"))
    steps = len(spy.coins["fit"])
    assert seen == [("fit", 0.6)] * steps + [("detector", 0.6)] * 40


def test_training_that_ends_early_is_not_taken_for_a_whole(monkeypatch):
    def stopped(module, batch, index):
        if module.trainer.global_step == 5:
            module.trainer.should_stop = True
        return original(module, batch, index)

    original = RectifierModule.training_step
    monkeypatch.setattr(RectifierModule, "training_step", stopped)
    with pytest.raises(UapError, match="training ended at step 6 of 12"):
        job.train(composed("train", *QUICK_TRAIN))
    assert json.loads(Path("outputs/run/results.json").read_text())["status"] == "failed"


def test_a_filter_too_wide_for_the_crops_is_told_before_anything_is_crafted():
    words = [w for w in QUICK_TRAIN if "rectifier" not in w]
    with pytest.raises(UapError, match="rectifier=gaussian and detector=dct_svm do not take"):
        job.train(composed("train", *words, "rectifier=gaussian", "rectifier.model.radius=40"))
    assert not Path("banks").exists()


def test_overwrite_begins_an_unfinished_run_anew(monkeypatch):
    """Where a checkpoint of another condition lies, the sentence advises it."""
    Path("outputs/run/checkpoints").mkdir(parents=True)
    other = {"hyper_parameters": {"train_network": "other"}, "state_dict": {}}
    torch.save(other, "outputs/run/checkpoints/last.ckpt")
    with pytest.raises(UapError, match=r"overwrite=true"):
        job.train(composed("train", *QUICK_TRAIN))
    job.train(composed("train", *QUICK_TRAIN, "overwrite=true"))
    assert json.loads(Path("outputs/run/results.json").read_text())["status"] == "ok"


def test_perturbations_that_were_trained_on_are_not_tested_on():
    """The same file under another name, in another bank's test part."""
    job.train(composed("train", *QUICK_TRAIN))
    [bank] = Path("banks").iterdir()
    other = Path("other")
    shutil.copytree(bank, other)
    words = [w for w in QUICK_TRAIN if not w.startswith(("rectifier", "detector"))]
    words += ["defense=outputs/run/defense", "bank.path=other"]
    evaluate(composed("evaluate", *words, output=Path("outputs/fine")))
    shutil.copy(other / "train-0001.safetensors", other / "test-0001.safetensors")
    with pytest.raises(UapError, match="trained on 1 of the 2 test perturbations of other"):
        evaluate(composed("evaluate", *words, output=Path("outputs/leak")))


def test_the_threshold_is_set_on_photographs_that_nothing_is_fitted_on(monkeypatch):
    spy = Spy(monkeypatch)
    seen = []
    original = fitting.calibrate

    def noted(detector, rectifier, clean, false_alarms):
        batches = list(clean)
        seen.append((torch.cat(batches), false_alarms))
        return original(detector, rectifier, iter(batches), false_alarms)

    monkeypatch.setattr(fitting, "calibrate", noted)
    words = ("data.validation_share=0.3", "detector.false_alarms=0.05", "detector=conv")
    job.train(composed("train", *QUICK_TRAIN, *words, "detector.model.epochs=1"))
    [(images, rate)] = seen
    assert rate == 0.05
    assert len(images) > 2
    fitted = {image.numpy().tobytes() for image, *_ in spy.added["fit"] + spy.added["detector"]}
    assert fitted
    assert not any(image.numpy().tobytes() in fitted for image in images)


def test_a_threshold_without_photographs_to_set_it_on_is_refused():
    with pytest.raises(UapError, match=r"data\.validation_share"):
        job.train(composed("train", *QUICK_TRAIN, "detector.false_alarms=0.05"))


def test_a_test_needs_no_perturbations_to_train_with():
    job.train(composed("train", *QUICK_TRAIN))
    defense = "defense=outputs/run/defense"
    words = ["network=tiny", "data=generated", "name=run", defense, "attack=random_signs"]
    words += ["bank.train=0", "bank.test=2", "bank.min_fooling_ratio=0", "callbacks.panel.rows=1"]
    evaluate(composed("evaluate", *words, output=Path("outputs/evaluate")))
    [bank] = {path.parent for path in Path("banks").rglob("test-0001.safetensors")}
    assert not list(bank.glob("train-*"))
