"""Trainings that build on another one: that begin with its rectifier, or are taught by it."""

import json
from pathlib import Path

import pytest
import torch

from tests.jobs.made_banks import write_bank
from tests.tiny import QUICK_TRAIN, composed, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_tensors
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.jobs import train as job
from uap_lightning.jobs.train import train
from uap_lightning.perturbations.bank import identities
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.training.watching import LossWatch

EARLIER = Path("outputs/run/defense")
START = f"rectifier.training.start={EARLIER}"
TEACHER = f"rectifier.training.teacher={EARLIER}"
BOTH = pytest.mark.parametrize(("key", "word"), [("start", START), ("teacher", TEACHER)])
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


def test_the_loss_has_to_fall_only_where_it_begins_with_nothing(monkeypatch):
    asked = []

    def watch(steps, unit, falls):
        asked.append(falls)
        return LossWatch(steps, unit, falls)

    monkeypatch.setattr(job, "LossWatch", watch)
    train(composed("train", *QUICK_TRAIN, ONE_STEP))
    train(composed("train", *QUICK_TRAIN, START, ONE_STEP, output=LATER))
    assert asked == [True, False]


@BOTH
def test_what_the_other_one_was_trained_on_may_not_be_tested_on(key, word):
    train(composed("train", *QUICK_TRAIN))
    before = trained_on(EARLIER)
    mine = own_bank("mine")
    train(with_bank("mine", word, ONE_STEP, "seed=3", "data.source.seed=0"))
    after = trained_on(LATER / "defense")
    assert set(after["perturbations"]) == {*before["perturbations"], mine}
    assert set(after["photographs"]) >= set(before["photographs"])
    assert before["perturbations"]
    assert mine not in before["perturbations"]


@BOTH
def test_a_perturbation_that_the_other_one_was_trained_with_is_not_tested_on(key, word):
    own_bank("first", trained=1, tested=2)
    own_bank("second", trained=3, tested=1)
    train(with_bank("first", ONE_STEP))
    LATER.rename("outputs/run")
    expected = (
        r"(start|teacher): the defence was trained on 1 of the 1 test perturbations of second"
    )
    with pytest.raises(UapError, match=expected):
        train(with_bank("second", word, ONE_STEP))


@BOTH
def test_a_photograph_that_the_other_one_was_trained_on_is_not_tested_on(key, word):
    train(composed("train", *QUICK_TRAIN))
    more = ("data.name=renamed", "data.source.test_share=0.5", ONE_STEP)
    expected = rf"{key}: the defence was trained on \d+ of the 32 test photographs"
    with pytest.raises(UapError, match=expected):
        train(composed("train", *QUICK_TRAIN, word, *more, output=LATER))


def test_a_rectifier_that_is_built_otherwise_is_refused():
    train(composed("train", *QUICK_TRAIN))
    words = [word for word in QUICK_TRAIN if not word.startswith("rectifier")]
    for other in (["rectifier.model.width=5"], ["rectifier=unet", "rectifier.training.epochs=-1"]):
        with pytest.raises(UapError, match=r"start names .*, whose rectifier \(.*built as this"):
            train(composed("train", *words, *other, START, ONE_STEP, output=LATER))
    with pytest.raises(UapError, match=r"rectifier\.training\.start: .*nowhere"):
        train(composed("train", *QUICK_TRAIN, "rectifier.training.start=nowhere", output=LATER))


def test_weights_that_fit_and_mean_something_else_are_refused():
    """Both are of one class and shape; what they multiply their output by differs."""
    words = [word for word in QUICK_TRAIN if not word.startswith("rectifier")]
    small = ("rectifier.model.width=4", "rectifier.model.blocks=1", ONE_STEP)
    small = (*small, "rectifier.training.epochs=-1")
    train(composed("train", *words, "rectifier=prn_printed", *small))
    with pytest.raises(UapError, match="is not built as this one"):
        train(composed("train", *words, "rectifier=prn", *small, START, output=LATER))


@BOTH
def test_an_origin_in_the_folder_of_the_run_is_refused_and_stays(key, word):
    train(composed("train", *QUICK_TRAIN))
    for more in ((), ("overwrite=true",)):
        with pytest.raises(UapError, match=rf"{key} is .*in the folder of this run .*name=NAME"):
            train(composed("train", *QUICK_TRAIN, word, ONE_STEP, *more))
    assert load_defense(EARLIER)


@BOTH
def test_a_finished_run_sees_that_its_origin_was_replaced(key, word):
    said = {"start": "began with", "teacher": "was taught by"}[key]
    train(composed("train", *QUICK_TRAIN))
    later = composed("train", *QUICK_TRAIN, word, ONE_STEP, output=LATER)
    rate = train(later)
    assert train(later) == rate
    train(composed("train", *QUICK_TRAIN, "rectifier.training.steps=11", "overwrite=true"))
    with pytest.raises(UapError, match=f"{said} another defence"):
        train(later)


def test_a_checkpoint_of_another_start_is_not_gone_on_from():
    train(composed("train", *QUICK_TRAIN))
    kept = "callbacks.checkpoint.train_time_interval.seconds=0"
    train(composed("train", *QUICK_TRAIN, "name=fresh", kept, output=Path("outputs/fresh")))
    path = "ckpt_path=outputs/fresh/checkpoints/last.ckpt"
    with pytest.raises(UapError, match="was trained with start None"):
        train(composed("train", *QUICK_TRAIN, START, path, output=LATER))


@BOTH
def test_images_of_another_size_are_begun_with_and_told(key, word, caplog):
    train(composed("train", *QUICK_TRAIN))
    more = ("data.resize=40", "data.crop=40", "bank.min_fooling_ratio=0", ONE_STEP)
    train(composed("train", *QUICK_TRAIN, word, *more, output=LATER))
    assert load_defense(LATER / "defense").size == 40
    assert "was trained at 32 pixels" in caplog.text


def test_the_card_says_what_a_defence_began_with():
    train(composed("train", *QUICK_TRAIN))
    train(composed("train", *QUICK_TRAIN, START, ONE_STEP, output=LATER))
    digest = load_defense(EARLIER).digest
    assert f"SHA-256 {digest} |" in (LATER / "defense/README.md").read_text()
    assert "Began with" not in (EARLIER / "README.md").read_text()


def test_a_teacher_need_not_be_built_alike_and_is_not_begun_with():
    train(composed("train", *QUICK_TRAIN))
    wider = ("rectifier.model.width=16", ONE_STEP, STILL)
    train(composed("train", *QUICK_TRAIN, *wider, TEACHER, output=LATER))
    train(composed("train", *QUICK_TRAIN, *wider, output=Path("outputs/fresh")))
    taught, fresh = (
        read_tensors(folder / "rectifier.safetensors")[0]
        for folder in (LATER / "defense", Path("outputs/fresh/defense"))
    )
    assert all(torch.allclose(taught[key], fresh[key], atol=1e-9) for key in fresh)
    assert load_defense(LATER / "defense").condition["teacher"] == load_defense(EARLIER).digest
    digest = load_defense(EARLIER).digest
    assert (
        f"Taught by | the rectifier of the defence with SHA-256 {digest} |"
        in (LATER / "defense/README.md").read_text()
    )


def test_what_is_learned_from_a_teacher_is_what_it_makes_of_the_images(monkeypatch):
    """With its aim alone, a rectifier comes near the teacher and not the clean image."""
    train(composed("train", *QUICK_TRAIN, ONE_STEP))

    class Darker(torch.nn.Module):
        def forward(self, images):
            return images - 20

    monkeypatch.setattr(job, "teacher_of", lambda origins: Darker())
    more = ("rectifier.training.distillation=1", "rectifier.training.steps=60")
    train(composed("train", *QUICK_TRAIN, TEACHER, *more, output=LATER))
    images = torch.full((1, 3, 32, 32), 127.0)
    with torch.no_grad():
        darker = load_defense(LATER / "defense").rectifier(images)
    assert float(darker.mean()) < 122


def test_a_teacher_that_takes_no_such_images_is_refused(monkeypatch):
    train(composed("train", *QUICK_TRAIN))

    forward = ResidualPRN.forward

    def narrow(self, images):
        if images.shape[-1] != 32:
            raise ValueError("expected 32 pixels")
        return forward(self, images)

    monkeypatch.setattr(ResidualPRN, "forward", narrow)
    words = [word for word in QUICK_TRAIN if not word.startswith("rectifier")]
    larger = ("data.resize=40", "data.crop=40", "bank.min_fooling_ratio=0", "rectifier=unet")
    expected = r"teacher names .* side 40 \(expected 32 pixels\)"
    with pytest.raises(UapError, match=expected):
        train(composed("train", *words, *larger, ONE_STEP, TEACHER, output=LATER))


@pytest.mark.parametrize("value", [0, 1.5, -1])
def test_a_share_of_the_teacher_outside_of_its_range_is_refused(value):
    with pytest.raises(UapError, match=r"distillation is .*at most 1 \(the teacher's image\)"):
        typed_config("train", *QUICK_TRAIN, f"rectifier.training.distillation={value}")


def test_a_teacher_that_the_loss_does_not_look_at_is_refused():
    weights = ("cross_entropy=1", "reconstruction=0")
    words = [f"rectifier.training.loss.{weight}" for weight in weights]
    with pytest.raises(UapError, match=r"teacher is .*cross_entropy alone"):
        typed_config("train", *QUICK_TRAIN, *words, TEACHER)


def test_a_teacher_that_returns_other_images_is_refused(monkeypatch):
    train(composed("train", *QUICK_TRAIN))
    forward = ResidualPRN.forward
    words = [word for word in QUICK_TRAIN if not word.startswith("rectifier")]
    larger = ("data.resize=40", "data.crop=40", "bank.min_fooling_ratio=0", "rectifier=unet")
    for wrong in (lambda found: found[..., :32, :32], lambda found: found * torch.nan):

        def other(self, images, wrong=wrong):
            found = forward(self, images)
            return found if images.shape[-1] == 32 else wrong(found)

        monkeypatch.setattr(ResidualPRN, "forward", other)
        with pytest.raises(UapError, match=r"teacher names .* side 40 \(it returns "):
            train(composed("train", *words, *larger, ONE_STEP, TEACHER, output=LATER))
