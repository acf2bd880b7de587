"""The guard's decision rule and the defence folder."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import uap_lightning
from tests.tiny import SETTINGS, TINY, composed
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, digest_of_file
from uap_lightning.data.imagenet_classes import class_names
from uap_lightning.detectors import DctSvm
from uap_lightning.guard.defense_folder import FILES, load_defense, save_defense
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.config import build, find_conf
from uap_lightning.networks import TargetNetwork
from uap_lightning.networks.tiny import GratingEnergy
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.training.outcomes import outcomes as outcomes_of
from uap_lightning.training.panel import draw_panel

RECTIFIERS = sorted(path.stem for path in Path(find_conf(), "rectifier").glob("*.yaml"))


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
    outcomes = outcomes_of(guard, x, rho, torch.arange(5), torch.arange(5), coin)
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


class Normalised(torch.nn.Module):
    """The tiny network as a plain module: blue first, mean 127.5 and std 127.5."""

    def __init__(self):
        super().__init__()
        self.inner = GratingEnergy()

    def forward(self, x):
        return self.inner(x.flip(1))


def half_precision():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 8)).half()


def test_a_loaded_guard_is_the_parts_in_their_order(network, images, defense):
    guard = Guard.load(defense, network)
    parts = load_defense(defense)
    x = images.take(range(12))
    pixels = x.float()
    rectified = parts.rectifier(pixels)
    fires = parts.detector(pixels - rectified) > 0
    assert 0 < int(fires.sum()) < 12
    expected = torch.stack(
        [network((rectified if fires[i] else pixels)[i : i + 1])[0] for i in range(12)]
    )
    torch.testing.assert_close(guard(x), expected)
    assert not guard(x).requires_grad
    assert uap_lightning.Guard is Guard


def test_a_guard_takes_a_plain_module_with_its_normalisation(network, images, defense):
    x = images.take(range(6)) + torch.arange(3, dtype=torch.uint8)[:, None, None]
    plain = Guard.load(defense, Normalised(), mean=[127.5] * 3, std=[127.5] * 3, bgr=True)
    torch.testing.assert_close(plain(x), Guard.load(defense, network)(x))
    for kind in (np.array, torch.tensor):
        same = Guard.load(
            defense, Normalised(), mean=kind([127.5] * 3), std=kind([127.5] * 3), bgr=True
        )
        assert torch.equal(same(x), plain(x))
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    module.append(torch.nn.Linear(12, 8)).append(torch.nn.Dropout(0.5))
    guard = Guard.load(defense, module)
    used = guard.gate(x.float())[0]
    torch.testing.assert_close(guard(x), module.eval()(used))
    assert not any(p.requires_grad for p in guard.parameters())


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (Normalised(), {"mean": [0.5] * 3, "std": [0.5] * 3}, "expected pixel units"),
        (Normalised(), {"std": [1.0, 0.0, 1.0]}, "expected numbers above 0"),
        (Normalised(), {"mean": [1.0]}, "three finite numbers"),
        (Normalised(), {"mean": torch.zeros(3, 1, 1), "std": torch.ones(2)}, "std is .* three"),
        (Normalised(), {"std": [1.0, float("nan"), 1.0]}, "std is .* three finite numbers"),
        (Normalised(), {"mean": torch.zeros(3, 2, 2)}, "mean is .* three numbers"),
        (half_precision(), {}, r"parameters that are torch\.float16: .* \.float\(\)"),
        (torch.nn.Identity(), {}, r"returns \(1, 3, 32, 32\): expected N x K logits"),
        (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 8)), {}, "side 32, which"),
    ],
)
def test_networks_that_do_not_fit_are_refused(defense, module, arguments, said):
    with pytest.raises(UapError, match=said):
        Guard.load(defense, module, **arguments)


def test_a_target_network_normalises_by_itself(network, defense):
    with pytest.raises(UapError, match="leave out mean"):
        Guard.load(defense, network, mean=[0.0] * 3)


def test_another_network_or_number_of_classes_is_a_warning(network, images, defense):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Guard.load(defense, network)
        Guard.load(defense, Normalised())
    x = images.take([0])
    other = TargetNetwork(GratingEnergy(), "other", [127.5] * 3, [127.5] * 3)
    with pytest.warns(UserWarning, match="trained for tiny of 8 classes and guards other"):
        assert Guard.load(defense, other)(x).shape == (1, 8)
    five = torch.nn.Sequential(GratingEnergy(), torch.nn.Linear(8, 5))
    with pytest.warns(UserWarning, match="of 5 classes"):
        assert Guard.load(defense, five)(x).shape == (1, 5)


def test_a_guard_works_as_it_was_tested(network, images, defense):
    guard = Guard.load(defense, network)
    x = images.take(range(6))
    expected = guard.inspect(x)
    assert not any(module.training for module in guard.modules())
    assert not any(module.training for module in guard.train().modules())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = guard.inspect(x)
    assert torch.equal(seen.rectified, expected.rectified)
    assert torch.equal(seen.score, expected.score)


def test_images_of_another_size_are_refused(network, defense):
    guard = Guard.load(defense, network)
    with pytest.raises(UapError, match="images are 40 x 40: expected 32 x 32"):
        guard(torch.zeros(1, 3, 40, 40, dtype=torch.uint8))


@pytest.mark.parametrize("soft", [False, True])
def test_the_gradient_is_that_of_the_branch_taken(network, images, defense, soft):
    """Finite differences of the guard itself; with a soft gate, of the gate in closed form."""
    loaded = Guard.load(defense, network).double()
    guard = Guard(network, loaded.rectifier, loaded.detector, soft_gate=soft)
    x = images.take(range(8)).double().requires_grad_()
    torch.testing.assert_close(guard.gate(x)[0], loaded.gate(x)[0])
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).double()

    def loss(pixels, gate):
        rectified = guard.rectifier(pixels)
        score = guard.detector(pixels - rectified)
        weight = gate(score)[:, None, None, None]
        return network(pixels + weight * (rectified - pixels))[:, 0].sum()

    (gradient,) = torch.autograd.grad(network(guard.gate(x)[0])[:, 0].sum(), x)
    with torch.no_grad():
        score = guard.gate(x)[1]
        fired = (score > 0).double()
        step = 1e-5

        def gate(moved):
            return fired + soft * (moved.sigmoid() - score.sigmoid())

        ahead, behind = (loss(x + s * step * direction, gate) for s in (1, -1))
    numeric = (ahead - behind) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(numeric), rel=1e-3)


def test_importing_the_package_imports_no_pytorch_and_a_guard_nothing_slow():
    code = """
import sys, uap_lightning
assert "torch" not in sys.modules
uap_lightning.Guard
# Seconds each, and nothing that a guard in front of somebody's network needs.
slow = ("pytorch_lightning", "torchmetrics", "torchvision", "sklearn", "timm", "wandb")
assert not [name for name in slow if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        _ = uap_lightning.Missing


def test_a_defence_folder_brings_back_what_was_saved(tmp_path):
    torch.manual_seed(1)
    rectifier, detector = ResidualPRN(8, 2), DctSvm(32)
    torch.nn.init.normal_(rectifier.tail.weight, std=0.2)
    detector.weight.normal_()
    path = tmp_path / "d"
    save_defense(path, rectifier, detector, SETTINGS, {"size": 32})
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    loaded = load_defense(path)
    x = torch.rand(2, 3, 32, 32) * 255
    assert torch.equal(loaded.rectifier(x), rectifier(x))
    assert torch.equal(loaded.detector(x), detector(x))
    assert loaded.condition == {"size": 32}
    assert not loaded.rectifier.training


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["missing", "truncated", "altered"])
def test_a_folder_that_is_not_whole_is_refused(defense, name, change):
    path = defense / name
    whole = path.read_bytes()
    if change == "missing":
        path.unlink()
    elif change == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif name == "defense.json":
        path.write_bytes(whole.replace(b'"size": 32', b'"size": 64'))
    else:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UapError, match=re.escape(str(path))):
        load_defense(defense)
    path.write_bytes(whole)
    load_defense(defense)


def edit(path, **changes):
    """Change defense.json as its author could: with its own digest brought up to date."""
    content = {**json.loads((path / "defense.json").read_text()), **changes}
    content["sha256"]["content"] = digest_of([content["settings"], content["condition"]])
    (path / "defense.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("detector", "said"),
    [
        ({"_target_": "os.system", "command": "true"}, r"asks for os\.system"),
        ({"_target_": "uap_lightning.detectors.dct_svm.warnings.warn"}, "expected a rectifier"),
        ({"_target_": "uap_lightning.rectifiers.prn.nn.Identity"}, "expected a rectifier"),
        ({"_target_": "uap_lightning.detectors.Later", "size": 32}, "does not have"),
        ({**SETTINGS["detector"], "later": 1}, "do not fit"),
        ({**SETTINGS["detector"], "pool": 2}, r"detector\.safetensors .* do not fit"),
        ({**SETTINGS["detector"], "size": 16}, "size 32 and a detector of size 16"),
    ],
)
def test_a_folder_names_our_own_classes_as_they_are(defense, detector, said):
    edit(defense, settings={**SETTINGS, "detector": detector})
    with pytest.raises(UapError, match=said):
        load_defense(defense)


@pytest.mark.parametrize("width", [-1, 10_000_000, 2.5, "8", None])
def test_settings_that_build_nothing_are_refused(defense, width):
    rectifier = {**SETTINGS["rectifier"], "width": width}
    edit(defense, settings={**SETTINGS, "rectifier": rectifier})
    with pytest.raises(UapError, match=r"rectifier\.safetensors .* do not fit"):
        load_defense(defense)


@pytest.mark.parametrize("size", [0, -32, True, 32.0, "32", None])
def test_a_size_that_is_none_is_refused(defense, size):
    condition = {**json.loads((defense / "defense.json").read_text())["condition"], "size": size}
    edit(defense, condition=condition)
    with pytest.raises(UapError, match=r"has condition\.size"):
        load_defense(defense)


@pytest.mark.parametrize("name", ["content", "trained_on", "rectifier", "detector"])
def test_a_folder_without_one_of_its_digests_is_refused(defense, name):
    content = json.loads((defense / "defense.json").read_text())
    del content["sha256"][name]
    (defense / "defense.json").write_text(json.dumps(content))
    with pytest.raises(UapError, match=f"lacks the SHA-256 of its {name}"):
        load_defense(defense)


@pytest.mark.parametrize("content", [{}, {"photographs": 3}, {"photographs": [1]}])
def test_photographs_trained_on_that_are_no_list_are_refused(defense, content):
    file = defense / "trained_on.json"
    file.write_text(json.dumps(content))
    digests = json.loads((defense / "defense.json").read_text())["sha256"]
    edit(defense, sha256={**digests, "trained_on": digest_of_file(file)})
    with pytest.raises(UapError, match="has no list photographs of strings"):
        load_defense(defense)


@pytest.mark.parametrize("name", RECTIFIERS)
def test_a_folder_takes_every_rectifier_that_conf_has(tmp_path, name):
    cfg = composed("train", *TINY, f"rectifier={name}")
    settings = {
        part: OmegaConf.to_container(cfg[part].model, resolve=True)
        for part in ("rectifier", "detector")
    }
    rectifier = build(cfg.rectifier.model)
    save_defense(tmp_path, rectifier, build(cfg.detector.model), settings, {"size": 32})
    assert type(load_defense(tmp_path).rectifier) is type(rectifier)


def test_a_folder_of_another_schema_is_refused(defense):
    edit(defense, settings=None)
    with pytest.raises(UapError, match="lacks its settings"):
        load_defense(defense)
    edit(defense, schema=2)
    with pytest.raises(UapError, match="has schema 2: expected 1"):
        load_defense(defense)


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
