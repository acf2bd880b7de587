"""Defence folders: what is saved comes back, and a stranger's is whole, bounded, or refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import SETTINGS, TINY, scenes, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, digest_of_file
from uap_lightning.detectors import DETECTORS, DctSvm
from uap_lightning.guard.defense_folder import FILES, WHITENER, load_defense, save_defense
from uap_lightning.guard.hub import pull, push
from uap_lightning.jobs.config import arguments_of, build, find_conf
from uap_lightning.rectifiers import Median, ResidualPRN
from uap_lightning.streams.whitening import Whitener

RECTIFIERS = sorted(path.stem for path in Path(find_conf(), "rectifier").glob("*.yaml"))
TENSORS = ("rectifier.safetensors", "detector.safetensors")
PRN = {"name": "prn_residual", **SETTINGS["rectifier"]}
SVM = {"name": "dct_svm", **SETTINGS["detector"]}
TOLD = ("train_network", "train_norm", "rectifier", "detector")
CONDITION = {"size": 32, **dict.fromkeys(TOLD, "name")}


def edit(folder, **changes):
    """Change ``defense.json`` as its author could: every digest is brought up to date."""
    content = {**json.loads((folder / "defense.json").read_text()), **changes}
    content["sha256"] = {
        "content": digest_of([content["settings"], content["condition"]]),
        **{Path(name).stem: digest_of_file(folder / name) for name in FILES[1:]},
    }
    (folder / "defense.json").write_text(json.dumps(content))


def test_a_defence_folder_brings_back_what_was_saved(tmp_path):
    torch.manual_seed(1)
    rectifier, detector = ResidualPRN(8, 2), DctSvm(32)
    torch.nn.init.normal_(rectifier.tail.weight, std=0.2)
    detector.weight.normal_()
    path = tmp_path / "d"
    save_defense(path, rectifier, detector, SETTINGS, CONDITION, ["a", "b"])
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    loaded = load_defense(path)
    x = torch.rand(2, 3, 32, 32) * 255
    assert torch.equal(loaded.rectifier(x), rectifier(x))
    assert torch.equal(loaded.detector(x), detector(x))
    assert loaded.condition == CONDITION
    assert loaded.trained_on == {"a", "b"}
    assert not loaded.rectifier.training
    written = json.loads((path / "defense.json").read_text())
    assert written["settings"] == {"rectifier": PRN, "detector": SVM}


def test_a_class_without_a_name_is_not_saved(tmp_path):
    class Mine(torch.nn.Identity):
        pass

    with pytest.raises(UapError, match=r"Mine has no name .* @RECTIFIERS\.register"):
        save_defense(tmp_path / "d", Mine(), DctSvm(32), SETTINGS, {"size": 32})
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("name", RECTIFIERS)
def test_a_folder_takes_every_rectifier_that_conf_has(tmp_path, name):
    cfg = typed_config("train", *TINY, f"rectifier={name}")
    arguments = {part: arguments_of(getattr(cfg, part).model) for part in SETTINGS}
    rectifier = build(cfg.rectifier.model)
    condition = {**CONDITION, "size": cfg.data["crop"]}
    save_defense(tmp_path, rectifier, build(cfg.detector.model), arguments, condition)
    assert type(load_defense(tmp_path).rectifier) is type(rectifier)
    assert "uap_lightning" not in (tmp_path / "defense.json").read_text()


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


def tensors(file, change):
    """A change of one file of tensors."""

    def make(folder):
        found = load_file(folder / file)
        change(found)
        save_file(found, folder / file)

    return make


def settings(rectifier=PRN, detector=SVM, **condition):
    """A change of ``defense.json``."""

    def make(folder):
        known = json.loads((folder / "defense.json").read_text())["condition"]
        changed = {"rectifier": rectifier, "detector": detector}
        edit(folder, settings=changed, condition={**known, **condition})

    return make


def text(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def instead(name, make):
    """A file of another kind in the place of one."""

    def change(folder):
        (folder / name).unlink()
        make(folder / name)

    return change


def hole(path):
    with path.open("wb") as file:
        file.truncate(3 * 2**30)


def filter_of(**arguments):
    """A folder of a filter that has no tensors."""

    def make(folder):
        save_defense(folder, Median(), DctSvm(32), {"rectifier": {}, "detector": {}}, CONDITION)
        settings(arguments)(folder)

    return make


def header(**claims):
    """A safetensors file of one tensor, of four bytes, that claims to be something else."""
    content = json.dumps({"weight": {"dtype": "F32", "shape": [1], **claims}}).encode()
    return len(content).to_bytes(8, "little") + content + bytes(4)


CLAIMS = {
    "claims a huge shape": {"shape": [10**12], "data_offsets": [0, 4]},
    "claims huge offsets": {"shape": [10**12], "data_offsets": [0, 4 * 10**12]},
    "overflows": {"shape": [2**62, 4], "data_offsets": [0, 0]},
    "goes backwards": {"data_offsets": [4, 0]},
    "has no offsets": {},
    "is of no type": {"dtype": "PICKLE", "data_offsets": [0, 4]},
    "is of four bits": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]},
    "is of an exponent": {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]},
}
MANY = {f"later.{number}": torch.ones(0) for number in range(9999)}
DEEP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
STRANGERS = {
    **{
        f"prn_residual {key}={value!r}": settings({**PRN, key: value})
        for key in ("width", "blocks")
        for value in (10**7, 10**30, -1, 2.5, "8", None, [8], float("nan"), {"a": 1})
    },
    **{
        f"prn {key}={value!r}": settings({"name": "prn", key: value})
        for key, value in (
            ("blocks", 10**7),
            ("width", 10**6),
            ("tail_width", 10**9),
            ("tail_kernel", 10**5),
            ("mean", [0.0] * 4),
            ("scale", 0.0),
        )
    },
    "jpeg quality": filter_of(name="jpeg", quality=10**9),
    "median radius": filter_of(name="median", radius=10**6),
    "median fraction": filter_of(name="median", radius=2.5),
    "gaussian radius beyond the image": filter_of(name="gaussian", radius=40),
    "gaussian sigma": filter_of(name="gaussian", sigma="1"),
    "total variation": filter_of(name="total_variation", iterations=10**12),
    "bilateral": filter_of(name="bilateral", radius=10**4),
    **{
        f"dct_svm {key}={value!r}": settings(detector={**SVM, key: value})
        for key, value in (
            ("size", 10**6),
            ("size", 2**62),
            ("size", -32),
            ("pool", 10**6),
            ("pool", 0),
            ("pool", 32),
            ("pool", 2.0),
            ("c", "1"),
        )
    },
    "huge size": settings(detector={**SVM, "size": 10**6}, size=10**6),
    "pooled to one": settings(detector={**SVM, "size": 10**6, "pool": 10**6}, size=10**6),
    **{
        f"{name} {kind}": change
        for name in FILES
        for kind, change in (
            ("deep", text(name, DEEP)),
            ("deep list", text(name, b"[" * 10_000)),
            ("empty", text(name, b"")),
            ("claims a huge header", text(name, (2**60).to_bytes(8, "little") + b"{}")),
            ("a pipe", instead(name, os.mkfifo)),
            ("a device", instead(name, lambda path: path.symlink_to("/dev/zero"))),
            ("a folder", instead(name, Path.mkdir)),
            ("a loop of links", instead(name, lambda path: path.symlink_to(path))),
            ("far too large", instead(name, hole)),
        )
    },
    **{f"detector {name}": text(TENSORS[1], header(**claims)) for name, claims in CLAIMS.items()},
    **{
        f"{file} {kind}": tensors(file, change)
        for file, first in zip(TENSORS, ("head.weight", "weight"), strict=True)
        for kind, change in (
            ("double", lambda found, first=first: found.update({first: found[first].double()})),
            ("half", lambda found, first=first: found.update({first: found[first].half()})),
            ("whole", lambda found, first=first: found.update({first: found[first].long()})),
            (
                "eight bits",
                lambda found, first=first: found.update(
                    {first: found[first].to(torch.float8_e4m3fn)}
                ),
            ),
            ("flat", lambda found, first=first: found.update({first: found[first].flatten()[1:]})),
            ("gone", lambda found, first=first: found.pop(first)),
            ("many more", lambda found, first=first: found.update(MANY)),
        )
    },
}
# What cannot be read to its end has no digest.
UNSIGNED = ("a pipe", "a device", "a folder", "a loop of links", "far too large")
# Opens every folder with a gigabyte more than it takes to be here.
OPEN = """
import json, resource, sys, traceback
from pathlib import Path
from uap_lightning.core.errors import UapError
from uap_lightning.guard.defense_folder import load_defense

import torch, kornia.filters
torch.set_num_threads(1)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30,) * 2)
for folder in sys.argv[1:]:
    try:
        load_defense(folder)
        print(json.dumps([folder, "loaded"]), flush=True)
    except UapError as error:
        print(json.dumps([folder, str(error)]), flush=True)
    except BaseException:
        print(json.dumps([folder, traceback.format_exc()]), flush=True)
"""


def test_a_strangers_folder_is_bounded_and_refused_in_one_sentence(defense, tmp_path):
    """One process opens them all, with little memory, and ends."""
    good = {file.name: file.read_bytes() for file in defense.iterdir()}
    names = {}
    for number, (name, change) in enumerate(STRANGERS.items()):
        folder = tmp_path / f"{number:03}"
        folder.mkdir()
        for file, content in good.items():
            (folder / file).write_bytes(content)
        change(folder)
        if not name.startswith("defense.json") and not name.endswith(UNSIGNED):
            edit(folder)
        names[str(folder)] = name
    done = subprocess.run(
        [sys.executable, "-c", OPEN, *names, str(defense)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(json.loads(line) for line in done.stdout.splitlines())
    assert said.pop(str(defense)) == "loaded"
    assert len(said) == len(STRANGERS) > 80
    for folder, sentence in said.items():
        assert folder in sentence, (names[folder], sentence)
        assert "Traceback" not in sentence, (names[folder], sentence)
        assert "\n" not in sentence, names[folder]
        assert len(sentence) < 1000, (names[folder], sentence)


@pytest.fixture
def with_whitener(tmp_path):
    folder, settings = (
        tmp_path / "w",
        {"rectifier": SETTINGS["rectifier"], "detector": {"size": 64}},
    )
    whitener = Whitener(64).fit(scenes(20))
    parts = (ResidualPRN(8, 2), DctSvm(64))
    save_defense(folder, *parts, settings, {**CONDITION, "size": 64}, whitener=whitener)
    return folder


def test_a_whitener_travels_with_the_defence(with_whitener):
    whitener, images = Whitener(64).fit(scenes(20)), scenes(2, seed=1)
    loaded = load_defense(with_whitener).whitener
    assert torch.equal(loaded(images), whitener(images))
    assert loaded.null == whitener.null


def test_a_defence_that_is_saved_anew_has_no_old_whitener(with_whitener):
    settings = {"rectifier": SETTINGS["rectifier"], "detector": {"size": 64}}
    condition = {**CONDITION, "size": 64}
    save_defense(with_whitener, ResidualPRN(8, 2), DctSvm(64), settings, condition)
    assert load_defense(with_whitener).whitener is None
    assert sorted(p.name for p in with_whitener.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("change", ["missing", "altered", "pipe", "not described"])
def test_a_whitener_that_is_not_the_defences_own_is_refused(with_whitener, change):
    file = with_whitener / WHITENER
    if change == "altered":
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    elif change == "not described":
        content = json.loads((with_whitener / "defense.json").read_text())
        content["sha256"]["whitener"] = None
        (with_whitener / "defense.json").write_text(json.dumps(content))
    else:
        file.unlink()
        if change == "pipe":
            os.mkfifo(file)
    with pytest.raises(UapError, match=r"whitener\.safetensors") as refused:
        load_defense(with_whitener)
    assert "\n" not in str(refused.value)


def test_the_hub_carries_the_whitener(with_whitener, tmp_path):
    class Folder:
        def create_repo(self, *_, **__):
            pass

        def upload_folder(self, *, folder_path, allow_patterns, **_):
            (tmp_path / "hub").mkdir()
            for name in allow_patterns:
                if (folder_path / name).exists():
                    (tmp_path / "hub" / name).write_bytes((folder_path / name).read_bytes())

        def snapshot_download(self, _, *, allow_patterns, local_dir, **__):
            local_dir.mkdir()
            for name in allow_patterns:
                if (tmp_path / "hub" / name).exists():
                    (local_dir / name).write_bytes((tmp_path / "hub" / name).read_bytes())

    push(with_whitener, "user/name", api=Folder())
    pull("user/name", tmp_path / "back", api=Folder())
    assert load_defense(tmp_path / "back").whitener is not None
