"""The test set as a stream, against counting by hand and a run from its command to its table."""

import json

import pytest
import torch

from tests.tiny import run
from uap_lightning.jobs.streaming import met_before
from uap_lightning.perturbations.sampling import draw_pairs

SIZED = (
    *("network=tiny", "data=generated", "name=run", "data.source.size=72", "data.crop=64"),
    *("bank.train=2", "bank.test=1", "bank.extended=4", "rectifier.training.steps=4"),
    *("attack=random_signs", "bank.min_fooling_ratio=0", "detector.max_images=40"),
    *("detector.model.pool=8", "callbacks.panel.rows=1"),
)


@pytest.mark.parametrize("seed", range(5))
def test_images_met_before_are_counted_one_by_one(seed):
    draw = draw_pairs(torch.zeros(3, 3, 4, 4), 60, seed)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    counts, expected = [0, 0, 0], {}
    for place in order.tolist():
        expected[place] = min(counts)
        if draw.coin[place] < 0.5:
            counts[int(draw.perturbation[place])] += 1
    assert met_before(draw, 0.5, order).tolist() == [expected[place] for place in range(60)]


def test_a_run_as_a_stream_has_its_lines_and_leaves_the_others_as_they_were(tmp_path):
    plain = run("train", *SIZED, "hydra.run.dir=plain", cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    assert "guard with memory" not in plain.stdout
    done = run("train", *SIZED, "stream=true", "hydra.run.dir=streamed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Defense rate, guard with memory" in done.stdout
    before, after = (
        json.loads((tmp_path / name / "results.json").read_text())["rows"]
        for name in ("plain", "streamed")
    )
    for old, new in zip(before, after, strict=True):
        assert old["stream_rate"] is old["stream_rate_16"] is None
        assert 0 <= new["stream_rate"] <= 200
        low, high = new["ci95"].pop("stream_rate")
        assert low <= new["stream_rate"] <= high
        new["ci95"].pop("stream_rate_16")
        for row in (old, new):
            del row["stream_rate"], row["stream_rate_16"]
        assert old == new
    # A defence that was trained is tested so as well.
    words = [word for word in SIZED if not word.startswith(("rectifier", "detector", "name"))]
    words += ["defense=streamed/defense", "stream=true", "bank.extended=2"]
    tested = run("evaluate", *words, "hydra.run.dir=tested", cwd=tmp_path)
    assert tested.returncode == 0, tested.stderr
    again = json.loads((tmp_path / "tested" / "results.json").read_text())["rows"]
    assert all(row["stream_rate"] is not None for row in again)


def test_images_too_small_for_a_stream_are_told(tmp_path):
    words = [word for word in SIZED if not word.startswith(("data.source.size", "data.crop"))]
    done = run("train", *words, "stream=true", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: stream is true and the defence has no whitener" in done.stderr
