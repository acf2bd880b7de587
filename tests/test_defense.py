"""The guard's decision rule and the defence folder."""

import json

import pytest
import torch
from PIL import Image

from uap_lightning.defense import Guard, load_defense, save_defense
from uap_lightning.detectors import DctSvm
from uap_lightning.errors import UapError
from uap_lightning.panel import class_names, draw_panel
from uap_lightning.rectifiers import ResidualPRN


class Plus(torch.nn.Module):
    """Rectifies by adding 7."""

    def forward(self, x):
        return x + 7


class Chosen(torch.nn.Module):
    """Scores what it was told to."""

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.tensor(scores)

    def forward(self, difference):
        assert torch.equal(difference, torch.full_like(difference, -7))
        return self.scores


def test_the_guard_rectifies_where_the_detector_fires_and_nowhere_else(network, images):
    x = images.take(range(4))
    guard = Guard(network, Plus(), Chosen([1.0, -1.0, 0.0, 0.1]))
    seen = guard.inspect(x)
    assert seen.perturbed.tolist() == [True, False, False, True]
    for i, fired in enumerate(seen.perturbed.tolist()):
        given = x[i : i + 1].float() + (7 if fired else 0)
        torch.testing.assert_close(seen.logits[i : i + 1], network(given))
    torch.testing.assert_close(guard(x), seen.logits)
    assert torch.equal(seen.rectified, x.float() + 7)


def test_outcomes_are_those_of_each_image_alone(network, images):
    torch.manual_seed(0)
    rectifier = ResidualPRN(8, 2)
    torch.nn.init.normal_(rectifier.tail.weight, std=0.2)
    detector = DctSvm(32)
    detector.weight.normal_()
    guard = Guard(network, rectifier.eval(), detector)
    x = images.take(range(5)).float()
    rho = torch.randn(5, 3, 32, 32).sign() * 10
    coin = torch.rand(5)
    outcomes = guard.outcomes(x, rho, torch.arange(5), torch.arange(5), coin)
    for i in range(5):
        for image, raw, rectified, score in (
            (x[i], outcomes.clean, outcomes.rectified_clean, outcomes.score_clean),
            (
                (x[i] + rho[i]).clamp(0, 255),
                outcomes.perturbed,
                outcomes.rectified_perturbed,
                outcomes.score_perturbed,
            ),
        ):
            seen = guard.inspect(image[None])
            assert int(network(image[None]).argmax()) == int(raw[i])
            assert int(network(seen.rectified).argmax()) == int(rectified[i])
            assert float(seen.score) == pytest.approx(float(score[i]), rel=1e-3, abs=1e-3)


def test_images_that_break_the_contract_stop_at_the_door(network, images):
    guard = Guard(network, Plus(), Chosen([1.0]))
    with pytest.raises(UapError, match="values 0-255"):
        guard(images.take([0]).float() / 255)


SETTINGS = {
    "rectifier": {"_target_": "uap_lightning.rectifiers.ResidualPRN", "width": 8, "blocks": 2},
    "detector": {"_target_": "uap_lightning.detectors.DctSvm", "size": 32},
}


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(1)
    rectifier, detector = ResidualPRN(8, 2), DctSvm(32)
    torch.nn.init.normal_(rectifier.tail.weight, std=0.2)
    detector.weight.normal_()
    save_defense(tmp_path / "d", rectifier, detector, SETTINGS, {"size": 32})
    return tmp_path / "d", rectifier, detector


def test_a_defence_folder_brings_back_what_was_saved(folder):
    path, rectifier, detector = folder
    assert sorted(p.name for p in path.iterdir()) == [
        "defense.json",
        "detector.safetensors",
        "rectifier.safetensors",
    ]
    loaded = load_defense(path)
    x = torch.rand(2, 3, 32, 32) * 255
    assert torch.equal(loaded.rectifier(x), rectifier(x))
    assert torch.equal(loaded.detector(x), detector(x))
    assert loaded.condition == {"size": 32}
    assert not loaded.rectifier.training


def edit(path, **changes):
    content = json.loads((path / "defense.json").read_text())
    content.update(changes)
    (path / "defense.json").write_text(json.dumps(content))


def test_a_defence_folder_that_was_changed_is_refused(folder):
    path = folder[0]
    weights = path / "rectifier.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UapError, match=r"rectifier\.safetensors is not the file"):
        load_defense(path)
    weights.unlink()
    with pytest.raises(UapError, match=r"rectifier\.safetensors cannot be read"):
        load_defense(path)
    weights.write_bytes(whole)
    load_defense(path)
    evil = {**SETTINGS, "detector": {"_target_": "os.system", "command": "true"}}
    edit(path, settings=evil)
    with pytest.raises(UapError, match=r"asks for os\.system"):
        load_defense(path)
    edit(path, settings=None)
    with pytest.raises(UapError, match="lacks its settings"):
        load_defense(path)
    edit(path, schema=99)
    with pytest.raises(UapError, match="has schema 99"):
        load_defense(path)


def test_the_panel_has_a_row_an_image(network, images, tmp_path):
    guard = Guard(network, ResidualPRN(8, 2), DctSvm(32))
    x = images.take(range(3)).float()
    rho = torch.full((3, 3, 32, 32), 10.0)
    panel = draw_panel(guard, x, rho, class_names(8))
    two = draw_panel(guard, x[:2], rho[:2], class_names(8))
    assert panel.width == two.width
    row = panel.height - two.height
    assert row > 192
    # the first tile is the clean image, enlarged
    tile = panel.crop((8, 34, 200, 226)).resize((32, 32), Image.Resampling.BOX)
    shown = torch.tensor(list(tile.get_flattened_data())).reshape(32, 32, 3).permute(2, 0, 1)
    assert float((shown.float() - x[0]).abs().mean()) < 6


def test_imagenet_classes_have_names():
    names = class_names(1000)
    assert names[281].startswith("tabby")
    assert len(names) == 1000
    assert class_names(3) == ["class 0", "class 1", "class 2"]
