"""The table of what makes the paper's network learn, from results that are known."""

import json
import math
from pathlib import Path

import pytest

from experiments import learning_ablation, runs
from experiments.learning_ablation import VARIANTS, Line, markdown
from tests.results.samples import a_row, result, write
from tests.tiny import typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.results.file import FILE, read_results
from uap_lightning.training.watching import STOPPED, LossWatch


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_a_config_and_only_what_it_says_is_changed(variant):
    cfg = typed_config("train", "network=tiny", "data=generated", *VARIANTS[variant])
    model, training = cfg.rectifier.model, cfg.rectifier.training
    assert model["skip"] == variant.startswith(("path", "prn"))
    printed = variant in ("as printed", "the authors' code", "as printed, at rate 0.001")
    both = "both" in variant
    assert bool(training.loss.cross_entropy) == (printed or both or "equation 2" in variant)
    assert bool(training.loss.reconstruction) == (
        both or "reconstruction" in variant or variant.startswith("prn,")
    )


def test_lines_of_a_variant_are_their_mean_and_what_was_stopped_is_said():
    lines = [
        Line("a", 0, None, 80.0, 60.0, 90.0, 91.0, 70.0, (1.0, 2.0)),
        Line("a", 1, None, 84.0, 62.0, 92.0, 93.0, 72.0, (1.0, 2.0)),
        Line("a", 2, stopped="the loss is not finite"),
        Line("b", 0, stopped="the loss never fell"),
    ]
    *_, first, second = markdown(lines).splitlines()
    assert first == (
        "| a | 61.0 (60.0 to 62.0) | 82.0 (80.0 to 84.0) stopped, 1 of 3 | 91.0 (90.0 to 92.0) | "
        "92.0 (91.0 to 93.0) | 71.0 (70.0 to 72.0) |"
    )
    assert second == "| b |  | stopped, 1 of 1 |  |  |  |"


def test_what_failed_for_another_reason_is_no_line():
    content = result()
    write("there", {**content, "status": "failed", "reason": "no space left on device"})
    failed = read_results(Path("there/results.json"))
    with pytest.raises(SystemExit, match="no space left on device"):
        learning_ablation.line(failed, "a", 0)


def test_the_reasons_of_the_watch_are_known():
    for losses in ([math.nan], [1.0, 1e9]):
        watch = LossWatch(200, unit=1.0)
        with pytest.raises(UapError) as raised:
            [watch.see(loss) for loss in losses]
        assert str(raised.value).startswith(STOPPED)
    watch = LossWatch(200, unit=1.0)
    with pytest.raises(UapError) as raised:
        [watch.see(1.0 + step) for step in range(200)]
    assert str(raised.value).startswith(STOPPED)


def test_a_training_that_fails_by_saying_why_is_a_line_and_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learning_ablation, "VARIANTS", {"good": (), "bad": ("rectifier=prn",)})
    begun = []

    def launch(job, seconds):
        begun.append(job)
        job.folder.mkdir(parents=True)
        bad = "rectifier=prn" in job.overrides
        content = {
            "schema": 1,
            "status": "failed",
            "reason": "the training loss exploded",
            "rows": [],
        }
        if not bad:
            content = {"schema": 1, "status": "ok", "rows": [a_row()]}
        (job.folder / FILE).write_text(json.dumps(content))
        return int(bad)

    monkeypatch.setattr(runs, "launch", launch)
    words = ["--smoke", "--seeds", "1", "--output", "out"]
    learning_ablation.main(words)
    written = json.loads(Path("out/learning_ablation.json").read_text())["lines"]
    assert [one["stopped"] for one in written] == [None, "the training loss exploded"]
    learning_ablation.main(words)
    assert len(begun) == 2
    # What the folder holds is of other settings: the command refuses it, and that is no result.
    monkeypatch.setattr(runs, "launch", lambda job, seconds: 1)
    monkeypatch.setattr(learning_ablation, "VARIANTS", {"good": (), "bad": ("seed=1",)})
    with pytest.raises(SystemExit, match="status 1"):
        learning_ablation.main(words)
