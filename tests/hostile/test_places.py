"""Places that cannot be written: no permission, a file in the way, a full disk, no memory."""

import os
import subprocess

import pytest

from tests.hostile.keys import words

WRITERS = ("craft", "train", "evaluate", "report", "predict", "scan", "export")
KEYS = {
    "craft": ("hydra.run.dir", "paths.bank_dir", "paths.cache_dir"),
    "train": ("hydra.run.dir", "paths.bank_dir", "paths.cache_dir"),
    "evaluate": ("hydra.run.dir", "paths.cache_dir"),
    "report": ("output",),
    "predict": ("output",),
    "scan": ("output",),
    "export": ("output",),
}
ENDS = {"report": "/x", "predict": "/x.csv", "scan": "/x", "export": "/x.onnx"}
PLACED = [(command, key) for command in WRITERS for key in KEYS[command]]


def mounted(folder, *options):
    """Mount a small disk; skips where that is not allowed."""
    if os.geteuid():
        pytest.skip("needs root to mount a small disk")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("mounting is not allowed here")


@pytest.fixture
def sealed(tmp_path):
    """A folder that may not be written, not even by root."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mounted(folder, "ro")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    """Mounts a disk of some kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size):
        mounted(folder, f"size={size}k")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


@pytest.mark.parametrize(
    "place", ["sealed", "sealed/deeper", "file", "file/x", "/proc/x", "/sys/x"]
)
@pytest.mark.parametrize(("command", "key"), PLACED)
def test_a_place_that_cannot_be_written(command, key, place, sealed, hostile, material, tmp_path):
    (tmp_path / "file").write_text("in the way")
    where = place if place.startswith("/") else str(tmp_path / place)
    hostile(command, *words(command, material, f"{key}={where}{ENDS.get(command, '')}"))
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("command", WRITERS)
def test_a_working_folder_that_cannot_be_written(command, sealed, hostile, material):
    hostile(command, *words(command, material), cwd=sealed)


@pytest.mark.parametrize("size", [8, 28, 64, 200])
@pytest.mark.parametrize(("command", "key"), PLACED)
def test_a_disk_that_is_full(command, key, size, disk, hostile, material):
    """It is told in a sentence, or the disk was large enough; nothing is half written."""
    place = disk(size)
    hostile(
        *(command, *words(command, material, f"{key}={place}{ENDS.get(command, '/x')}")),
        expect="either",
        cwd=place.parent,
    )


@pytest.mark.parametrize("limit", [0, 100, 2000, 5000, 20_000, 100_000])
@pytest.mark.parametrize("command", WRITERS)
def test_files_that_may_not_grow(command, limit, hostile, material):
    """Errno 27; what is said must fit into the file that takes it."""
    private = ["paths.bank_dir=banks"] if command in ("craft", "train") else []
    given = words(command, material, *private)
    hostile(command, *given, expect="either", file_size=max(limit, 1500))


OTHERS = {
    "import": ["import", "PLACE", "rho.npy", "--orientation", "chw", "--order", "rgb"],
    "export": ["export", "MATERIAL/bank", "PLACE"],
}


@pytest.mark.parametrize("place", ["sealed", "sealed/deeper", "file", "/proc/x"])
@pytest.mark.parametrize("verb", OTHERS)
def test_a_bank_that_cannot_be_written(verb, place, sealed, hostile, material, tmp_path):
    import numpy as np

    (tmp_path / "file").write_text("in the way")
    np.save(tmp_path / "rho.npy", np.ones((3, 32, 32), np.float32))
    where = place if place.startswith("/") else str(tmp_path / place)
    given = [w.replace("PLACE", where).replace("MATERIAL", str(material)) for w in OTHERS[verb]]
    if verb == "import":
        given += ["--network", "tiny", "--norm", "linf", "--eps", "10", "--part", "train"]
    hostile("perturbations.__main__", *given)


@pytest.mark.parametrize("place", ["sealed/x", "file/x", "file", "/proc/x", "n" * 300, ""])
def test_a_pull_to_a_place_that_cannot_be_written(place, sealed, hostile, tmp_path):
    (tmp_path / "file").write_text("in the way")
    hostile("hub", "pull", "user/name", place)


@pytest.mark.parametrize("repo", ["user/name", "", "/", "a/b/c", "é/x", "-x", "[red]", "n" * 300])
@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_hub_that_does_not_answer(verb, repo, hostile, material):
    folder = str(material / "outputs" / "run" / "defense")
    given = [verb, folder, repo] if verb == "push" else [verb, repo, "pulled"]
    hostile("hub", *given)


@pytest.mark.parametrize("given", [["a", "b"], ["", ""], ["[red]", "x"], ["é", "n" * 300]])
def test_a_workspace_without_an_account(given, hostile, tmp_path):
    hostile("workspace", *given, env={"HOME": str(tmp_path), "WANDB_API_KEY": ""})
