"""An attack on each image, on a network and guards whose answers are known."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from experiments import per_image
from experiments.stream_setting import answers
from experiments.unseen_tables import Line, PerImage, per_image_table
from tests.tiny import convolutional, scenes
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_json
from uap_lightning.detectors import NoDetector
from uap_lightning.guard.guard import Guard
from uap_lightning.rectifiers import Identity

LINE = Line("a | b", 99.0, 12.5, (8.0, 17.0), 40.0, 10.0, 20, 100)
RESULT = PerImage(1, "ok", "tiny", 64, 0, "python -m x", "0", [LINE])


class Undo(torch.nn.Module):
    """Knows the clean images, and gives them back whatever is done to them."""

    def __init__(self, images):
        super().__init__()
        self.images = images.float()

    def forward(self, images):
        nearest = torch.cdist(images.flatten(1), self.images.flatten(1)).argmin(1)
        return self.images[nearest] + 0 * images


def test_the_bare_network_falls_and_a_guard_that_knows_the_image_does_not():
    network, images = convolutional().requires_grad_(False), scenes(30, 32, seed=1)
    label = answers(network, images.float())
    label[0] = (label[0] + 1) % 6  # the network is wrong once
    plain = answers(network, images.float()) == label
    bare = Guard(network, Identity(), NoDetector())
    moved = per_image.attacked(bare, images, label, 6.0, 10)
    assert moved.dtype == torch.uint8
    assert 3 < int((moved.int() - images.int()).abs().max()) <= 6
    found = per_image.line("no defence", bare, images, label, plain, 6.0, 10)
    assert found.clean == 100
    left = float((answers(network, moved.float()) == label)[1:].double().mean())
    assert found.attacked == pytest.approx(100 * left, abs=15)  # another starting point
    assert found.attacked < 60
    assert found.ci95[0] <= found.attacked <= found.ci95[1]
    knowing = Guard(network, Undo(images), NoDetector())
    kept = per_image.line("knows", knowing, images, label, plain, 6.0, 10)
    assert kept.attacked == kept.clean == 100
    assert kept.detected == 100  # without a detector every image counts as perturbed


def test_the_table_has_a_line_for_each_and_refuses_what_lacks_a_number(tmp_path):
    lines = [replace(LINE, defense="no defence"), LINE]
    write_json(tmp_path / "a.json", asdict(replace(RESULT, lines=lines)))
    rows = per_image_table(tmp_path).splitlines()
    assert rows[2] == "| tiny, 64 px | no defence | 99.0 | 12.5 [8.0, 17.0] |  | 100 |"
    assert rows[3].endswith("| 99.0 | 12.5 [8.0, 17.0] | 40.0 % | 100 |")
    content = json.loads((tmp_path / "a.json").read_text())
    del content["lines"][0]["ci95"]
    write_json(tmp_path / "a.json", content)
    with pytest.raises(UapError, match=r"lines\.0\.ci95"):
        per_image_table(tmp_path)
