"""Defence folders that are not whole, or hold what cannot be used, are refused."""

import json
import re
import sys

import pytest
from safetensors.torch import load_file, save_file

from tests.guard.defense_folders import PRN, SVM, TENSORS, TOLD, edit
from uap_lightning.core.errors import UapError
from uap_lightning.detectors import DETECTORS
from uap_lightning.guard.defense_folder import FILES, load_defense


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


@pytest.mark.parametrize(
    ("detector", "said"),
    [
        ({"name": "os.system", "command": "true"}, r"'os\.system' is no detector"),
        ({"name": "uap_lightning.detectors.DctSvm", "size": 32}, "is no detector"),
        (
            {"name": "prn_residual"},
            r"'prn_residual' is no detector \(there are dct_svm, conv, none",
        ),
        ({"name": ["dct_svm"], "size": 32}, "is no detector"),
        ({"size": 32}, "'None' is no detector"),
        ({"name": "x" * 10**5}, "is no detector"),
        ({**SVM, "later": 1}, "do not fit"),
        ({**SVM, "pool": 2}, r"detector\.safetensors .* do not fit"),
        ({**SVM, "size": 16}, "do not fit"),
        ({"name": "none"}, r"detector\.safetensors .* do not fit"),
    ],
)
def test_a_folder_names_registered_classes_as_they_are(defense, detector, said):
    edit(defense, settings={"rectifier": PRN, "detector": detector})
    with pytest.raises(UapError, match=said) as refused:
        load_defense(defense)
    assert len(str(refused.value)) < 800


def test_nothing_of_a_folder_is_imported_unless_it_is_trusted(defense, monkeypatch):
    monkeypatch.syspath_prepend(str(defense))
    code = "from uap_lightning.detectors import DETECTORS, NoDetector\n"
    code += "@DETECTORS.register('stranger')\nclass Stranger(NoDetector): pass\n"
    (defense / "stranger.py").write_text(code)
    save_file({}, defense / "detector.safetensors")
    for name in ("stranger", "stranger.Stranger"):
        edit(defense, settings={"rectifier": PRN, "detector": {"name": name}})
        with pytest.raises(UapError, match="set UAP_TRUST to the module"):
            load_defense(defense)
    assert "stranger" not in sys.modules
    edit(defense, settings={"rectifier": PRN, "detector": {"name": "stranger"}})
    monkeypatch.setenv("UAP_TRUST", "nowhere_at_all")
    with pytest.raises(UapError, match="UAP_TRUST names nowhere_at_all, which cannot be imported"):
        load_defense(defense)
    monkeypatch.setenv("UAP_TRUST", "json, stranger")
    assert type(load_defense(defense).detector).__name__ == "Stranger"
    del DETECTORS["stranger"], sys.modules["stranger"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("file", "name"),
    [
        (TENSORS[0], "coarse.1.second.weight"),
        (TENSORS[1], "weight"),
        (TENSORS[1], "bias"),
        (TENSORS[1], "scale"),
    ],
)
def test_weights_that_are_not_finite_are_refused_by_name(defense, file, name, value):
    tensors = load_file(defense / file)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, defense / file)
    edit(defense)
    with pytest.raises(UapError, match=rf"{file} holds values in {re.escape(name)} that are not"):
        load_defense(defense)


def test_weights_that_give_nothing_finite_are_refused(defense):
    tensors = load_file(defense / TENSORS[1])
    tensors["scale"].zero_()
    save_file(tensors, defense / TENSORS[1])
    edit(defense)
    with pytest.raises(UapError, match=r"do not work on an image of side 32 .*not finite"):
        load_defense(defense)


@pytest.mark.parametrize("size", [0, -32, True, 32.0, "32", None, 16, 1025])
def test_a_size_that_is_none_is_refused(defense, size):
    condition = {**json.loads((defense / "defense.json").read_text())["condition"], "size": size}
    edit(defense, condition=condition)
    with pytest.raises(UapError, match=r"condition\.size|of side 16 .*expected 32 x 32"):
        load_defense(defense)


@pytest.mark.parametrize("name", ["content", "trained_on", "rectifier", "detector"])
@pytest.mark.parametrize("value", [None, 3, "gone"])
def test_a_folder_without_one_of_its_digests_is_refused(defense, name, value):
    content = json.loads((defense / "defense.json").read_text())
    content["sha256"][name] = value
    if value == "gone":
        del content["sha256"][name]
    (defense / "defense.json").write_text(json.dumps(content))
    with pytest.raises(UapError, match=rf"defense\.json .*sha256\.{name}"):
        load_defense(defense)


@pytest.mark.parametrize("content", [{}, {"photographs": 3}, {"photographs": [1]}, []])
def test_photographs_trained_on_that_are_no_list_are_refused(defense, content):
    (defense / "trained_on.json").write_text(json.dumps(content))
    edit(defense)
    with pytest.raises(UapError, match=r"trained_on\.json .*expected what the defence"):
        load_defense(defense)


@pytest.mark.parametrize("name", ["schema", "settings", "condition"])
def test_a_folder_of_another_schema_is_refused(defense, name):
    content = json.loads((defense / "defense.json").read_text())
    for value in (None, 2, "text", []):
        (defense / "defense.json").write_text(json.dumps({**content, name: value}))
        with pytest.raises(UapError, match=rf"defense\.json .*\({name}: "):
            load_defense(defense)


@pytest.mark.parametrize("key", TOLD)
def test_what_results_are_told_by_is_there(defense, key):
    content = json.loads((defense / "defense.json").read_text())["condition"]
    for value in (None, 3, ["tiny"]):
        edit(defense, condition={**content, key: value})
        with pytest.raises(UapError, match=rf"defense\.json has .* under condition\.{key}:"):
            load_defense(defense)
    del content[key]
    edit(defense, condition=content)
    with pytest.raises(UapError, match=rf"defense\.json has .* under condition\.{key}:"):
        load_defense(defense)
