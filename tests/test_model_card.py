"""The model card, and a defence folder on its way to the Hub and back; nothing is sent."""

import json
import re
import shutil
from pathlib import Path

import pytest

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, write_json
from uap_lightning.guard.defense_folder import CARD, FILES, RECORD, load_defense
from uap_lightning.guard.hub import pull, push
from uap_lightning.hub import main
from uap_lightning.results.card import card

ROW = {
    "train_network": "tiny",
    "train_norm": "linf",
    "test_network": "tiny",
    "perturbation_network": "tiny",
    "test_norm": "linf",
    "protocol": "a",
    "label_source": "prediction",
    "n_images": 437,
    "n_photographs": 41,
    "defense_rate": 86.7123,
    "undefended_rate": 65.3456,
    "ci95": {"defense_rate": [72.4, 96.5], "undefended_rate": [52.9, 77.5]},
}
RESULT = {
    "schema": 1,
    "status": "ok",
    "rows": [ROW],
    "config": {"attack": {"name": "cosine_uap"}, "bank": {"train": 4, "test": 2, "extended": 24}},
    "versions": {"torch": "2.15.0"},
}


@pytest.fixture
def folder(defense):
    """The defence folder with a condition as training writes it."""
    content = json.loads((defense / "defense.json").read_text())
    content["condition"] |= {"rectifier": "prn_residual", "detector": "dct_svm", "seed": 7}
    content["sha256"]["content"] = digest_of([content["settings"], content["condition"]])
    write_json(defense / "defense.json", content)
    return defense


def described(folder):
    return card(json.loads((folder / RECORD).read_text())["condition"], RESULT)


def test_the_card_has_the_numbers_with_their_floor_and_intervals(folder):
    text = described(folder)
    for said in (
        "| Defense rate | 86.7 % [72.4, 96.5] |",
        "| Undefended rate (floor) | 65.3 % [52.9, 77.5] |",
        "| Test photographs | 41 |",
        "| Target network | tiny, 8 classes |",
        "4 crafted by cosine_uap and extended to 24",
        "own predictions on the clean images",
        "N x 3 x 32 x 32",
        "adaptive attack",
    ):
        assert said in text, said
    named = RESULT["config"] | {"bank": RESULT["config"]["bank"] | {"path": "/mine/lts4"}}
    given = card(load_defense(folder).condition, RESULT | {"config": named})
    assert "those of the bank lts4 and extended to 24" in given
    # the Hub reads the head, and the last block is the condition as it was trained
    assert re.match(r"---\nlibrary_name: uap-lightning\n", text)
    block = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    assert block == load_defense(folder).condition
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    compile(example, "card", "exec")


class Hub:
    """Keeps repositories as folders, with the calls of ``huggingface_hub.HfApi`` that we use."""

    def __init__(self, root):
        self.root = root

    def create_repo(self, repo, *, private, exist_ok):
        assert exist_ok
        (self.root / repo).mkdir(parents=True, exist_ok=True)
        (self.root / repo / ".private").write_text(str(private))

    def create_commit(self, repo, *, operations, commit_message):
        assert commit_message
        for operation in operations:
            shutil.copyfile(operation.path_or_fileobj, self.root / repo / operation.path_in_repo)

    def snapshot_download(self, repo, *, revision, allow_patterns, local_dir):
        if revision is not None:
            raise OSError(f"no revision {revision}.\nand more")
        (local_dir / ".cache").mkdir(parents=True)
        for name in allow_patterns:
            if (self.root / repo / name).exists():
                shutil.copyfile(self.root / repo / name, local_dir / name)


def test_a_folder_comes_back_from_the_hub_as_it_went(folder, tmp_path):
    pytest.importorskip("huggingface_hub")
    hub = Hub(tmp_path / "hub")
    (folder / CARD).write_text(described(folder))
    (folder / "notes.txt").write_text("not to be sent")
    push(folder, "user/name", private=True, api=hub)
    sent = tmp_path / "hub" / "user" / "name"
    assert {p.name for p in sent.iterdir()} == {*FILES, CARD, "README.md", ".private"}
    assert (sent / "README.md").read_bytes() == (folder / CARD).read_bytes()
    assert (sent / ".private").read_text() == "True"

    pull("user/name", Path("there/back"), api=hub)
    assert {p.name for p in Path("there/back").iterdir()} == {*FILES, CARD}
    assert load_defense("there/back").digest == load_defense(folder).digest
    with pytest.raises(UapError, match=r"there/back exists"):
        pull("user/name", Path("there/back"), api=hub)
    with pytest.raises(UapError, match=r"could not be pulled \(no revision v2\)"):
        pull("user/name", Path("there/v2"), revision="v2", api=hub)

    # what is not whole is neither taken nor sent
    (sent / "detector.safetensors").write_bytes(b"half")
    with pytest.raises(UapError, match=r"detector\.safetensors is not the file"):
        pull("user/name", Path("there/broken"), api=hub)
    assert [p.name for p in Path("there").iterdir()] == ["back"]
    (folder / "rectifier.safetensors").unlink()
    with pytest.raises(UapError, match=r"rectifier\.safetensors cannot be read"):
        push(folder, "user/other", api=hub)
    assert not (tmp_path / "hub" / "user" / "other").exists()


def test_the_command_ends_in_one_sentence(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["pull", "user/name", str(folder)])
    assert ended.value.code == 1
    assert "exists: give another folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["push", "nowhere", "user/name"])
    assert ended.value.code == 1
    assert "nowhere/defense.json cannot be read" in capsys.readouterr().err
