"""A folder predicted by workers of Ray has the rows that one process writes."""

import json
import sys
from pathlib import Path

import pytest

from tests.jobs.predicting import save, settings, table
from uap_lightning.core.errors import UapError
from uap_lightning.jobs import predict as module
from uap_lightning.jobs.predict import predict


def test_workers_of_ray_write_the_rows_of_one_process_and_go_on_from_its_part(
    defense, images, monkeypatch
):
    ray = pytest.importorskip("ray")
    save(images, 11)
    Path("photos/005b.png").write_bytes(Path("photos/005.png").read_bytes()[:200])
    predict(settings(defense, "batch_size=4"))
    with monkeypatch.context() as patched:
        patched.setattr("uap_lightning.jobs.predict.publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            predict(settings(defense, "batch_size=4", "output=ray.csv"))
    part = Path("ray.csv.part")
    lines = part.read_text().splitlines(keepends=True)
    marked = json.loads(lines[1]) | {"class": "done before"}
    part.write_text("".join([lines[0], json.dumps(marked) + "\n", *lines[2:6]]))
    try:
        predict(settings(defense, "batch_size=4", "engine=ray", "num_workers=2", "output=ray.csv"))
    finally:
        ray.shutdown()
    ours, theirs = table(), table("ray.csv")
    assert len(theirs) == 12
    assert theirs[0].pop("class") == "done before"
    ours[0].pop("class")
    for row, other in zip(ours, theirs, strict=True):
        for key in ("confidence", "score"):
            if row[key]:
                assert float(other[key]) == pytest.approx(float(row[key]), abs=1e-3)
        # Workers are given whole paths, which is what they tell of.
        other["error"] = other["error"].replace(f"{Path.cwd()}/", "")
        assert {**row, "confidence": "", "score": ""} == {**other, "confidence": "", "score": ""}
    assert not list(Path().glob(".names-*"))


def test_without_ray_the_engine_is_refused_in_one_sentence(defense, images, monkeypatch):
    save(images, 2)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UapError, match=r"engine is ray, .*pip install 'uap-lightning\[ray\]'"):
        predict(settings(defense, "engine=ray"))
    assert not Path("found.csv").exists()
    with pytest.raises(UapError, match="engine is dask: expected one of local, ray"):
        predict(settings(defense, "engine=dask"))
    with pytest.raises(UapError, match="engine is ray and accelerator gpu: expected auto or cpu"):
        predict(settings(defense, "engine=ray", "accelerator=gpu"))


def test_the_names_that_workers_of_ray_read_lie_beside_the_output(defense, images, monkeypatch):
    save(images, 5)
    monkeypatch.setattr(module, "connect", lambda workers: None)
    seen = []

    def answers(build, batches, workers):
        listing = build.args[1]
        seen.append((listing.place, batches, workers))
        answer = build()
        yield from map(answer, range(batches))

    monkeypatch.setattr(module, "answers", answers)
    predict(settings(defense, "engine=ray", "num_workers=3", "batch_size=2", "output=found.csv"))
    [(place, batches, workers)] = seen
    assert place.parent.parent == Path.cwd()
    assert (batches, workers) == (3, 3)
    assert [row["file"] for row in table()] == [f"{n:03}.png" for n in range(5)]
