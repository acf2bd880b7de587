"""Top-1 accuracy, counted by hand."""

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from experiments.accuracy import accuracy_of
from tests.tiny import environment, typed_config, write_images
from uap_lightning.core.errors import UapError
from uap_lightning.networks.tiny import tiny

WORDS = ("network=tiny", "data=folder", "data.resize=null", "data.crop=32")


@pytest.fixture
def classes(tmp_path):
    """Eight class folders to train on, and of three of them photographs to test on."""
    for number in range(8):
        write_images(tmp_path / "train" / f"c{number}", 1, (40, 34))
        Image.new("RGB", (40, 34), (number, 9, 9)).save(tmp_path / "train" / f"c{number}" / "0.png")
    for name, count in (("c0", 2), ("c3", 3), ("c5", 2)):
        write_images(tmp_path / "test" / name, count, (36, 44))
    return tmp_path


def right(folder):
    """How many of a folder's photographs the tiny network gets right, and how many there are."""
    found = []
    for path in sorted(folder.glob("*/*.png")):
        with Image.open(path) as image:
            pixels = functional.center_crop(functional.pil_to_tensor(image), [32, 32])
        found.append(int(tiny().predict(pixels[None].float())) == int(path.parent.name[1:]))
    return sum(found), len(found)


def test_every_photograph_of_root_or_of_test_root_is_counted_once(classes, monkeypatch):
    monkeypatch.chdir(classes)
    for words, folder in ((["data.test_root=test"], "test"), ([], "train")):
        cfg = typed_config("craft", *WORDS, "data.root=train", *words)
        found = accuracy_of(cfg)
        assert (found.correct, found.photographs) == right(classes / folder)
        assert found.percent == pytest.approx(100 * found.correct / found.photographs)
        low, high = found.ci95
        share, n = found.correct / found.photographs, found.photographs
        # Wilson's interval is where the share is 1.96 standard deviations away.
        for end in (low / 100, high / 100):
            assert abs(share - end) == pytest.approx(1.96 * (end * (1 - end) / n) ** 0.5, rel=1e-3)


def test_photographs_without_labels_are_refused(tmp_path):
    root = write_images(tmp_path / "flat", 6, (40, 34))
    cfg = typed_config("craft", *WORDS, f"data.root={root}", f"paths.cache_dir={tmp_path}")
    with pytest.raises(UapError, match="no photograph has a label"):
        accuracy_of(cfg)


def test_the_command_says_and_keeps_what_it_measured(tmp_path):
    words = ["network=tiny", "data=generated", "name=run"]
    command = [sys.executable, "-m", "experiments.accuracy", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "outputs/experiments/accuracy/run/accuracy.json").read_text())
    assert kept["photographs"] == 64
    assert f"tiny is right on {kept['correct']} of 64 photographs" in done.stdout + done.stderr
    assert torch.tensor(kept["ci95"]).diff().item() > 0
