"""Workers of Ray against one process, and what is told where they cannot be had."""

import os
import sys
from pathlib import Path

import pytest
import torch

from tests.scanned import ATTACKED, names, pixels, save, settings, table
from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.listing import Listing
from uap_lightning.jobs.scan import scan
from uap_lightning.jobs.scanning.aligned import Aligned
from uap_lightning.jobs.scanning.folder import Folder
from uap_lightning.jobs.scanning.on_ray import OnRay


@pytest.fixture
def ray():
    found = pytest.importorskip("ray")
    yield found
    found.shutdown()


def test_workers_of_ray_find_and_write_what_one_process_does(ray):
    save(scenes(40), attacked=ATTACKED)
    save(scenes(2, size=80, seed=5), folder="photos/larger")
    Path("photos/note.txt").write_text("no image")
    scan(settings("clean=true", "batch_size=7"))
    scan(settings("clean=true", "batch_size=7", "engine=ray", "output=ray"))
    assert names("ray") == names("out")
    assert table("ray/patterns.csv") == table("out/patterns.csv")
    for ours, theirs in zip(table(), table("ray/files.csv"), strict=True):
        assert float(theirs["score"] or 0) == pytest.approx(float(ours["score"] or 0), abs=0.02)
        # Workers elsewhere are given whole paths, which is what they tell of.
        error = theirs["error"].replace(f"{Path.cwd()}/", "")
        assert {**theirs, "score": "", "error": error} == {**ours, "score": ""}
    for n in ATTACKED:
        assert torch.equal(pixels(f"ray/clean/{n:03}.png.png"), pixels(f"out/clean/{n:03}.png.png"))
    assert "several sizes (64 x 64 to 80 x 80)" in Path("ray/index.html").read_text()


def test_workers_of_ray_look_at_each_batch_once_in_order_and_tell_what_is_wrong(ray):
    save(scenes(9))
    listing = Listing(Path("photos"), Path("names"))
    engine = OnRay(Folder(Path("photos"), listing, Aligned(64, "crop"), 2, 2))

    def look(files):
        if "008.png" in [path.name for path, _ in files]:
            raise OSError(28, "No space left on device", "clean")
        return os.getpid(), [path.name for path, _ in files]

    seen = []
    with pytest.raises(OSError, match="No space left"):
        seen.extend(engine.go("Looking", look, None))
    seen = [*engine.go("Looking", look, None, most=8)]
    assert [names for _, names in seen] == [[f"00{n}.png", f"00{n + 1}.png"] for n in (0, 2, 4, 6)]
    assert os.getpid() not in {process for process, _ in seen}


def test_without_ray_the_engine_is_refused_in_one_sentence(monkeypatch):
    save(scenes(12))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UapError, match=r"engine is ray, .*pip install 'uap-lightning\[ray\]'"):
        scan(settings("engine=ray"))
    assert names() == ["photos"]


def test_a_cluster_that_cannot_be_reached_is_told(monkeypatch):
    found = pytest.importorskip("ray")
    save(scenes(12))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")

    def init(**settings):
        assert settings["num_cpus"] is None
        raise ConnectionError("nobody\nanswers")

    monkeypatch.setattr(found, "init", init)
    with pytest.raises(UapError, match=r"reached at RAY_ADDRESS=127.0.0.1:1 \(nobody.answers\)"):
        scan(settings("engine=ray"))
    assert names() == ["photos"]
