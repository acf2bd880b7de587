"""Defence folders: what is saved comes back, with its whitener or without."""

import json
import os
from pathlib import Path

import pytest
import torch

from tests.guard.defense_folders import CONDITION, PRN, SVM
from tests.tiny import SETTINGS, TINY, scenes, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.detectors import DctSvm
from uap_lightning.guard.defense_folder import FILES, WHITENER, load_defense, save_defense
from uap_lightning.guard.hub import pull, push
from uap_lightning.jobs.config import arguments_of, build, find_conf
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.streams.whitening import Whitener

RECTIFIERS = sorted(path.stem for path in Path(find_conf(), "rectifier").glob("*.yaml"))


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
