"""A stranger's defence folder: settings, files and weights that no training wrote."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hostile.files import WAYS, replace_file
from tests.hostile.keys import words
from uap_lightning.core.storage import digest_of, digest_of_file

FILES = ("defense.json", "trained_on.json", "rectifier.safetensors", "detector.safetensors")
VALUES = {
    **{"huge": 10**7, "larger": 10**30, "negative": -1, "zero": 0, "text": "abc", "none": None},
    **{"half": 0.5, "nan": math.nan, "list": [1], "true": True, "markup": "[red]x[/red]"},
    **{"script": "<script>alert(1)</script>", "escape": "\x1b[31m", "surrogate": "\ud800"},
    **{"long": "n" * 5000, "object": {"_target_": "os.system"}},
}
# What a deployed defence is built and fed by.
KEYS = (
    *("settings.rectifier.width", "settings.rectifier.blocks", "settings.detector.size"),
    *("settings.detector.pool", "condition.size", "condition.resize", "condition.classes"),
    *("settings.rectifier", "settings.detector", "settings", "condition", "sha256", "schema"),
)
# What is only told of it.
TOLD = ("condition.train_network", "condition.train_norm", "condition.eps", "condition.data")

# What every use of a defence asks its condition for.
NEEDED = ("size", "train_network", "train_norm", "rectifier", "detector")


@pytest.fixture
def stranger(material, tmp_path):
    """A copy of the defence folder, in a folder of its own."""
    shutil.copytree(material / "outputs" / "run" / "defense", tmp_path / "defense")
    return tmp_path / "defense"


def seal(folder, content=None):
    """Bring the digests up to date, as somebody who means harm would."""
    path = folder / "defense.json"
    content = json.loads(path.read_text()) if content is None else content
    digests = content.get("sha256")
    if isinstance(digests, dict):
        digests["content"] = digest_of([content.get("settings"), content.get("condition")])
        for name in ("trained_on.json", "rectifier.safetensors", "detector.safetensors"):
            if (folder / name).is_file():
                digests[name.partition(".")[0]] = digest_of_file(folder / name)
    path.write_text(json.dumps(content))


def use(hostile, material, command, folder, expect, **settings):
    if command == "hub":
        return hostile("hub", "push", str(folder), "user/name", expect=expect, **settings)
    given = words(command, material, f"defense={folder}")
    return hostile(command, *given, expect=expect, **settings)


COMMANDS = ("predict", "evaluate", "export", "hub")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("key", KEYS)
def test_a_setting_that_builds_it(key, value, command, stranger, hostile, material):
    content = json.loads((stranger / "defense.json").read_text())
    *path, last = key.split(".")
    place = content
    for name in path:
        place = place[name]
    place[last] = value
    seal(stranger, content)
    # Resizing as in training is a matter of predict; a size that fits may be any.
    fine = key == "condition.resize" and (command != "predict" or value in (None, 0))
    # The object only adds a key, which nothing reads.
    fine = fine or (key == "sha256" and isinstance(value, dict))
    use(hostile, material, command, stranger, "either" if fine else "sentence")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("key", TOLD)
def test_a_setting_that_is_told(key, value, command, stranger, hostile, material):
    content = json.loads((stranger / "defense.json").read_text())
    content["condition"][key.rpartition(".")[2]] = value
    seal(stranger, content)
    use(hostile, material, command, stranger, "either")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "key", [*(f"condition.{key}" for key in NEEDED), "settings.rectifier", "sha256", "schema"]
)
def test_a_key_that_is_left_out(key, command, stranger, hostile, material):
    content = json.loads((stranger / "defense.json").read_text())
    *path, last = key.split(".")
    place = content
    for name in path:
        place = place[name]
    del place[last]
    seal(stranger, content)
    use(hostile, material, command, stranger, "sentence")


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "torch.nn.Linear", "uap_lightning.rectifiers.os", "", "nope", "é"),
        *("uap_lightning.rectifiers.Nope", "builtins.exec", "uap_lightning.jobs.train.train"),
        *("uap_lightning.detectors.DctSvm", "[red]", "a" * 4000, "uap_lightning.rectifiers."),
    ],
)
def test_a_class_that_is_not_a_rectifier(target, stranger, hostile, material):
    content = json.loads((stranger / "defense.json").read_text())
    name = next(k for k, v in content["settings"]["rectifier"].items() if isinstance(v, str))
    content["settings"]["rectifier"][name] = target
    seal(stranger, content)
    use(hostile, material, "predict", stranger, "sentence")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_something_else(name, how, command, stranger, hostile, material):
    replace_file(stranger / name, how)
    if name != "defense.json":
        seal(stranger)
    use(hostile, material, command, stranger, "sentence")


def spoiled(tensors, how):
    """The tensors of a module, spoiled."""
    name = next(k for k, v in tensors.items() if v.is_floating_point() and v.numel() > 1)
    wrong = dict(tensors)
    if how in ("nan", "inf"):
        wrong[name] = tensors[name].clone()
        wrong[name].view(-1)[0] = float(how)
    elif how == "all nan":
        wrong = {k: torch.full_like(v, math.nan) for k, v in tensors.items()}
    elif how == "shape":
        wrong[name] = tensors[name].flatten()[:-1].clone()
    elif how == "missing":
        del wrong[name]
    elif how == "more":
        wrong["more"] = torch.zeros(3)
    elif how == "integers":
        wrong[name] = torch.zeros(tensors[name].shape, dtype=torch.int8)
    elif how == "complex":
        wrong[name] = torch.zeros(tensors[name].shape, dtype=torch.complex64)
    elif how == "none":
        wrong = {}
    return wrong


@pytest.mark.parametrize("command", ["predict", "evaluate", "export", "hub"])
@pytest.mark.parametrize("part", ["rectifier", "detector"])
@pytest.mark.parametrize(
    "how", ["nan", "inf", "all nan", "shape", "missing", "more", "integers", "complex", "none"]
)
def test_weights_that_no_training_gave(how, part, command, stranger, hostile, material):
    path = stranger / f"{part}.safetensors"
    save_file(spoiled(load_file(path), how), path)
    seal(stranger)
    use(hostile, material, command, stranger, "sentence")


@pytest.mark.parametrize("command", ["predict", "evaluate", "export", "hub"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_digest(name, command, stranger, hostile, material):
    with (stranger / name).open("ab") as file:
        file.write(b" ")
    if name == "defense.json":  # blanks are no change: so change what it says
        text = (stranger / name).read_text()
        (stranger / name).write_text(text.replace('"size": 32', '"size": 31', 1))
    use(hostile, material, command, stranger, "sentence")


@pytest.mark.parametrize("command", ["predict", "evaluate", "export", "hub"])
@pytest.mark.parametrize("place", ["/nope", "/dev/null", "/", "/dev/zero", "n" * 300, "."])
def test_a_folder_that_is_none(place, command, hostile, material):
    use(hostile, material, command, place, "sentence")
