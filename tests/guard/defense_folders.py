"""The settings of a defence folder, and the edits that its author could make."""

import json
from pathlib import Path

from tests.tiny import SETTINGS
from uap_lightning.core.storage import digest_of, digest_of_file
from uap_lightning.guard.defense_folder import FILES

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
