"""A training that fails ends with one sentence and leaves no checkpoint to go on from."""

import json
import math
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import QUICK_TRAIN, composed, environment
from uap_lightning.core.errors import UapError
from uap_lightning.jobs import train as job
from uap_lightning.training.module import RectifierModule
from uap_lightning.training.watching import LossWatch, WatchTraining

FAILING = Path(__file__).with_name("failing.py")
SIGNS = ("attack=random_signs", "bank.min_fooling_ratio=0")  # crafted in no time
NO_MODEL = ("~rectifier.model.width", "~rectifier.model.blocks")


def failing(name, *words, module="tests.training.failing"):
    """Words of a training with a rectifier that fails, with a checkpoint after every step."""
    target = f"rectifier.model._target_={module}.{name}"
    often = "callbacks.checkpoint.train_time_interval.seconds=0"
    return [*QUICK_TRAIN, *SIGNS, target, *NO_MODEL, often, "protocol=[a]", *words]


def last_step():
    """The step of the checkpoint that was left; 0 where there is none."""
    last = Path("outputs/run/checkpoints/last.ckpt")
    return torch.load(last, weights_only=True)["global_step"] if last.exists() else 0


def refused(words):
    """The sentence that a training ends with, which ``results.json`` holds too."""
    with pytest.raises(UapError) as told:
        job.train(composed("train", *words))
    content = json.loads(Path("outputs/run/results.json").read_text())
    assert (content["status"], content["reason"]) == ("failed", str(told.value))
    assert content["rows"] == []
    assert "rectifier.training.optimizer.lr" in content["reason"]
    assert "\n" not in content["reason"]
    return content["reason"]


def verdict(losses, steps, unit=1.0, cut=None):
    """The step that a watch refuses, and by which rule; ``cut`` is where it is stored and read."""
    watch = LossWatch(steps, unit)
    for number, loss in enumerate(losses):
        if number == cut:
            watch = LossWatch(**json.loads(json.dumps(asdict(watch))))
        try:
            watch.see(loss)
        except UapError as error:
            said = str(error)
            rule = next(r for r in ("expected a number", "exploded", "not fallen") if r in said)
            assert f"step {number + 1} of {steps}" in said
            return number + 1, rule
    return None


def test_a_loss_that_need_not_fall_is_still_a_number_and_does_not_explode():
    """It goes up all the way, as where a trained rectifier is made ready for something harder."""
    rising = [1 + n / 100 for n in range(200)]
    assert verdict(rising, 200) == (100, "not fallen")
    for losses, said in (
        (rising, None),
        ([*rising[:150], math.nan], "expected a number"),
        ([*rising[:150], 200.0], "exploded"),
    ):
        watch = LossWatch(200, 1.0, falls=False)
        with nullcontext() if said is None else pytest.raises(UapError, match=said):
            for loss in losses:
                watch.see(loss)


def test_whether_it_has_to_fall_is_not_taken_from_a_checkpoint():
    watching = WatchTraining(LossWatch(200, 1.0, falls=False))
    watching.load_state_dict(asdict(LossWatch(200, 1.0, seen=90, start=1.0)))
    assert (watching.watch.falls, watching.watch.seen) == (False, 90)


def by_hand(losses, steps, unit=1.0):
    """The same, from the whole list at once."""
    found = [(n, "expected a number") for n, x in enumerate(losses, 1) if not math.isfinite(x)]
    limit = 100 * max(losses[0], unit)
    found += [(n, "exploded") for n, x in enumerate(losses, 1) if math.isfinite(x) and x > limit]
    if steps >= 100:
        size = min(50, steps // 20)
        blocks = torch.tensor(losses, dtype=torch.float64)[: steps // 2].unfold(0, size, size)
        if not (blocks.mean(1)[1:] < blocks[0].mean()).any():
            found.append((len(blocks) * size, "not fallen"))
    return min(found, default=None)


@given(
    steps=st.integers(1, 260),
    seed=st.integers(0, 10_000),
    trend=st.sampled_from([-0.01, -0.001, 0.0, 0.001, 0.01]),
    odd=st.lists(
        st.tuples(st.integers(0, 259), st.sampled_from([math.nan, math.inf, 150.0, 1e9])),
        max_size=2,
    ),
    cut=st.integers(0, 259),
)
def test_a_watch_refuses_by_its_three_rules_and_goes_on_from_its_state(
    steps, seed, trend, odd, cut
):
    generator = torch.Generator().manual_seed(seed)
    losses = (torch.rand(steps, generator=generator) + trend * torch.arange(steps)).tolist()
    for place, loss in odd:
        if place < steps:
            losses[place] = loss
    expected = by_hand(losses, steps) if math.isfinite(losses[0]) else (1, "expected a number")
    assert verdict(losses, steps) == expected
    assert verdict(losses, steps, cut=cut) == expected


@pytest.mark.parametrize(("steps", "most"), [(100, 1 / 10), (2000, 1 / 20)])
def test_false_alarms_are_as_few_as_is_said(steps, most):
    """Losses of batches of four: a log-normal noise of 40 %."""
    generator = torch.Generator().manual_seed(steps)
    tries, half = 200, steps // 2
    noise = torch.exp(0.4 * torch.randn(tries, half, generator=generator))
    fallen = 1 - 0.4 * torch.arange(half) / half
    risen = 1 + 0.5 * (torch.arange(half) >= min(50, steps // 20))

    def share(trend):
        return sum(verdict(x.tolist(), steps) is not None for x in noise * trend) / tries

    # One that does not learn at all is refused once in k + 1 times, within three deviations.
    assert share(torch.ones(half)) < most + 3 * (most * (1 - most) / tries) ** 0.5
    # One that falls by 40 % until the half, slowly, is not; one that rises by a half is.
    assert share(fallen) <= (0.05 if steps == 100 else 0.0)
    assert share(risen) > (0.5 if steps == 100 else 0.99)


def test_few_steps_are_refused_for_no_noise():
    assert verdict([0.1, 1.0, 0.5, 0.9, 3.0, 0.2, 90.0, 1.0], 8) is None
    # A first batch without a perturbed image costs next to nothing.
    assert verdict([1e-6, 3.0, 20.0, 0.4], 4) is None


def test_a_loss_that_is_no_number_in_step_1_ends_the_run():
    words = failing("Drifting", "+rectifier.model.rate='nan'")
    assert "loss is nan in step 1 of 12" in refused(words)
    assert last_step() == 0
    assert not Path("outputs/run/defense").exists()
    # Nothing was left to go on from: it fails the same again.
    assert "loss is nan in step 1 of 12" in refused(words)


@pytest.mark.parametrize(("rate", "said"), [("nan", "loss is nan"), ("1e6", r"exploded to \S+")])
def test_no_checkpoint_holds_a_step_that_failed(rate, said):
    words = failing("Drifting", f"+rectifier.model.rate='{rate}'", "+rectifier.model.after=6")
    assert re.search(f"{said} in step 7 of 12", refused(words))
    assert last_step() == 6
    assert re.search(f"{said} in step 7 of 12", refused(words))


@pytest.mark.parametrize("every", [1, 50])
def test_weights_that_are_no_numbers_are_neither_kept_nor_used(every):
    """The loss of the last step is a number; what the optimiser makes of its gradient is not."""
    words = failing(
        "Cusp",
        f"callbacks.checkpoint.every_n_train_steps={every}",
        "callbacks.checkpoint.train_time_interval=null",
    )
    said = refused([*words, "rectifier.training.steps=1"])
    assert "weight is not finite after step 1 of 1" in said
    assert last_step() == 0


def test_a_loss_that_never_falls_ends_the_run_also_where_it_was_interrupted(monkeypatch):
    words = failing("Drifting", "rectifier.training.steps=100")
    whole = refused(words)
    assert "has not fallen in step 50 of 100" in whole
    figures = [float(x) for x in re.findall(r"\d+\.\d+", whole)]
    assert figures[0] < figures[1]

    shutil.rmtree("outputs")
    step = RectifierModule.training_step

    def killed(module, batch, index):
        if module.trainer.global_step == 33:
            raise KeyboardInterrupt
        return step(module, batch, index)

    monkeypatch.setattr(RectifierModule, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        job.train(composed("train", *words))
    monkeypatch.setattr(RectifierModule, "training_step", step)
    assert last_step() == 33
    assert refused(words) == whole


def test_a_rectifier_behind_which_nothing_is_known_ends_the_run():
    """Its loss falls: the colour that it learns is nearer to the images than black."""
    words = failing("Grey", "rectifier.training.steps=100", "rectifier.training.optimizer.lr=0.05")
    assert "at chance in step 50 of 100" in refused(words)


def test_a_rate_far_too_high_ends_the_run():
    said = refused([*QUICK_TRAIN, *SIGNS, "rectifier.training.optimizer.lr=90000"])
    assert re.search(r"loss is (nan|inf)|not finite|exploded", said)


def test_processes_stop_together_at_a_loss_of_one(tmp_path):
    shutil.copy(FAILING, tmp_path)
    words = [
        *failing("Drifting", "+rectifier.model.rate='nan'", module="failing"),
        *("+rectifier.model.after=3", "+rectifier.model.process='1'"),
        *(
            "trainer=ddp",
            "accelerator=cpu",
            "callbacks.checkpoint.every_n_train_steps=2",
            "callbacks.checkpoint.train_time_interval=null",
        ),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "uap_lightning.train", *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    content = json.loads((tmp_path / "outputs" / "run" / "results.json").read_text())
    assert "loss is nan in step 4 of 12" in content["reason"], done.stderr
    assert f"error: {content['reason']}" in done.stderr.splitlines()
    last = torch.load(tmp_path / "outputs/run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 2
