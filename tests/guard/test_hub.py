"""A defence folder on its way to the Hub and back; nothing is sent."""

import shutil
from pathlib import Path

import pytest

from uap_lightning.core.errors import UapError
from uap_lightning.guard.defense_folder import CARD, FILES, load_defense
from uap_lightning.guard.hub import pull, push
from uap_lightning.hub import main

filter_repo_objects = pytest.importorskip("huggingface_hub.utils").filter_repo_objects


class Hub:
    """Keeps repositories as folders; patterns mean what they mean to the client itself."""

    def __init__(self, root):
        self.root = root

    def create_repo(self, repo, *, private, exist_ok):
        assert exist_ok
        (self.root / repo).mkdir(parents=True, exist_ok=True)
        (self.root / repo / ".private").write_text(str(private))

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        assert commit_message
        paths = [p.relative_to(folder_path).as_posix() for p in folder_path.rglob("*")]
        for name in filter_repo_objects(paths, allow_patterns=allow_patterns):
            shutil.copyfile(folder_path / name, self.root / repo_id / name)

    def snapshot_download(self, repo, *, revision, allow_patterns, local_dir):
        if revision is not None:
            raise OSError(f"no revision {revision}.\nand more")
        (local_dir / ".cache").mkdir(parents=True)
        for name in allow_patterns:
            if (self.root / repo / name).exists():
                shutil.copyfile(self.root / repo / name, local_dir / name)


@pytest.fixture
def hub(tmp_path):
    return Hub(tmp_path / "hub")


@pytest.fixture
def sent(hub):
    return hub.root / "user" / "name"


def test_a_folder_comes_back_from_the_hub_as_it_went(defense, hub, sent):
    (defense / CARD).write_text("# A card")
    (defense / "notes.txt").write_text("not to be sent")
    (defense / "more").mkdir()
    (defense / "more" / "defense.json").write_text("not to be sent")
    push(defense, "user/name", private=True, api=hub)
    assert {p.name for p in sent.iterdir()} == {*FILES, "README.md", ".private"}
    assert (sent / "README.md").read_bytes() == (defense / CARD).read_bytes()
    assert (sent / ".private").read_text() == "True"

    pull("user/name", Path("there/back"), api=hub)
    assert {p.name for p in Path("there/back").iterdir()} == {*FILES, CARD}
    assert load_defense("there/back").digest == load_defense(defense).digest
    with pytest.raises(UapError, match=r"there/back exists"):
        pull("user/name", Path("there/back"), api=hub)
    with pytest.raises(UapError, match=r"could not be pulled \(no revision v2\)"):
        pull("user/name", Path("there/v2"), revision="v2", api=hub)

    # what is not whole is neither taken nor sent
    (sent / "detector.safetensors").write_bytes(b"half")
    with pytest.raises(UapError, match=r"detector\.safetensors is not the file"):
        pull("user/name", Path("there/broken"), api=hub)
    assert [p.name for p in Path("there").iterdir()] == ["back"]
    (defense / "rectifier.safetensors").unlink()
    with pytest.raises(UapError, match=r"rectifier\.safetensors cannot be read"):
        push(defense, "user/other", api=hub)
    assert not (hub.root / "user" / "other").exists()


@pytest.mark.parametrize("name", [*FILES, CARD])
def test_no_link_is_followed(defense, hub, name, tmp_path):
    (defense / CARD).write_text("# A card")
    secret = tmp_path / "secret"
    (defense / name).rename(secret)
    (defense / name).symlink_to(secret)
    with pytest.raises(UapError, match=rf"{name} is a link"):
        push(defense, "user/name", api=hub)
    assert not hub.root.exists()


# Folders that nobody can make, not even the superuser whom a test may run as.
@pytest.mark.parametrize("folder", ["/proc/defense", "/proc/a/b", "x" * 300, "file/defense"])
def test_a_place_that_cannot_be_written_is_told(defense, hub, folder):
    push(defense, "user/name", api=hub)
    Path("file").write_text("")
    with pytest.raises(UapError, match=r"cannot be (written|created)") as refused:
        pull("user/name", Path(folder), api=hub)
    assert "\n" not in str(refused.value)
    assert sorted(p.name for p in Path().iterdir()) == ["defense", "file", "hub"]


def test_a_link_to_nowhere_is_not_replaced(defense, hub):
    push(defense, "user/name", api=hub)
    Path("link").symlink_to("nowhere")
    with pytest.raises(UapError, match="link exists"):
        pull("user/name", Path("link"), api=hub)
    assert Path("link").is_symlink()


@pytest.mark.parametrize("name", ["a/b/c", "user/na me", "../../etc", "user/" + "x" * 300])
def test_names_that_are_no_repository_are_told_by_the_client(name, capsys):
    """Before anything is asked of the network: the client checks them itself."""
    with pytest.raises(SystemExit) as ended:
        main(["pull", name, "there"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not Path("there").exists()


def test_the_command_ends_in_one_sentence(defense, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["pull", "user/name", str(defense)])
    assert ended.value.code == 1
    assert "exists: give another folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["push", "nowhere", "user/name"])
    assert ended.value.code == 1
    assert "nowhere/defense.json cannot be read" in capsys.readouterr().err


def test_an_interrupted_push_ends_in_a_sentence(monkeypatch, capsys):
    def interrupted(folder, repo, *, private):
        raise KeyboardInterrupt

    monkeypatch.setattr("uap_lightning.guard.hub.push", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["push", "folder", "me/mine"])
    assert ended.value.code == 130
    assert "interrupted: the same command does it anew." in capsys.readouterr().err
