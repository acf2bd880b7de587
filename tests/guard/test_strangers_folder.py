"""A stranger's defence folder: opened with little memory, refused in one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.guard.defense_folders import CONDITION, PRN, SVM, TENSORS, edit
from uap_lightning.detectors import DctSvm
from uap_lightning.guard.defense_folder import FILES, save_defense
from uap_lightning.rectifiers import Median


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
