"""A prediction that was interrupted, killed or damaged goes on where it was."""

import csv
import errno
import fcntl
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.jobs.predicting import save, settings, table
from tests.tiny import environment
from uap_lightning.core.errors import UapError
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.part import open_part
from uap_lightning.jobs.predict import predict


@contextmanager
def interrupted(monkeypatch, after):
    """The guard is stopped, as by a kill, when it has seen ``after`` batches."""
    seen, inspect = [], Guard.inspect

    def broken(guard, x):
        seen.append(len(x))
        if len(seen) > after:
            raise KeyboardInterrupt
        return inspect(guard, x)

    with monkeypatch.context() as patch:
        patch.setattr(Guard, "inspect", broken)
        yield seen


@pytest.mark.parametrize("output", ["found.csv", "found.jsonl"])
def test_an_interrupted_command_goes_on_where_it_was(defense, images, monkeypatch, output):
    save(images, 11)
    Path("photos/004.png").write_bytes(b"none")
    os.rename(b"photos/001.png", b"photos/001\xff\n.png")  # noqa: PTH104 - bytes
    cfg = settings(defense, f"output={output}", "batch_size=3")
    predict(cfg)
    whole = Path(output).read_bytes()
    Path(output).unlink()
    with interrupted(monkeypatch, after=2) as seen:
        with pytest.raises(KeyboardInterrupt):
            predict(cfg)
        assert seen == [3, 2, 3]
    left = {"defense", "photos", f"{output}.part"}
    assert {p.name for p in Path().iterdir()} == left
    # torn in the middle of a row, as a kill or a full disk leaves it
    part = Path(f"{output}.part")
    part.write_bytes(part.read_bytes() + b'{"mark": "12-')
    with interrupted(monkeypatch, after=9) as seen:
        predict(cfg)
        assert seen == [3, 2]
    assert Path(output).read_bytes() == whole
    assert {p.name for p in Path().iterdir()} == {"defense", "photos", output}


@pytest.mark.parametrize("change", ["replaced", "new", "gone", "resize", "names", "batch_size"])
def test_rows_that_no_longer_hold_are_computed_again(defense, images, monkeypatch, change):
    save(images, 8)
    Path("names.txt").write_text("\n".join("abcdefgh"))
    with interrupted(monkeypatch, after=3), pytest.raises(KeyboardInterrupt):
        predict(settings(defense, "batch_size=2"))
    more = ["batch_size=2"]
    if change == "replaced":
        Path("photos/003.png").write_bytes(Path("photos/006.png").read_bytes())
    elif change == "new":
        os.link("photos/006.png", "photos/002b.png")
    elif change == "gone":
        Path("photos/002.png").unlink()
    else:
        changed = {"resize": "resize=48", "names": "class_names=names.txt"}
        more = [changed.get(change, "batch_size=4"), *more][: 1 if change == "batch_size" else 2]
    predict(settings(defense, *more))
    found = Path("found.csv").read_bytes()
    predict(settings(defense, *more, "output=anew.csv"))
    assert found == Path("anew.csv").read_bytes()


def test_one_process_writes_an_output(defense, images):
    save(images, 2)
    with (
        open_part(Path("found.csv")),
        pytest.raises(UapError, match=r"another process writes found\.csv"),
    ):
        predict(settings(defense))
    predict(settings(defense))
    assert len(table()) == 2


def test_the_lock_of_an_output_is_one_file_that_stays(monkeypatch):
    """One who opened it before it was freed then holds the lock that a third one would ask for."""
    Path("temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(Path("temporary").resolve()))
    Path("results").mkdir()
    Path("same").symlink_to("results")
    with open_part(Path("results/found.csv")):
        [lock] = Path("temporary").iterdir()
        early = lock.open()
    assert list(Path("temporary").iterdir()) == [lock]
    fcntl.flock(early, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(UapError, match="another process"), open_part(Path("same/found.csv")):
        pass
    early.close()
    with open_part(Path("same/found.csv")), open_part(Path("results/other.csv")):
        assert len(list(Path("temporary").iterdir())) == 2
    assert not list(Path("results").iterdir())


@pytest.mark.parametrize(
    "damage",
    [bytes(9), b"[]", b"3", b"\xff", b"[" * 10**5, b'{"file": "002.png"}', b"row without score"],
)
def test_a_damaged_part_is_kept_up_to_the_damage(defense, images, monkeypatch, damage):
    save(images, 6)
    cfg = settings(defense, "batch_size=2")
    predict(cfg)
    whole = Path("found.csv").read_bytes()
    Path("found.csv").unlink()
    with interrupted(monkeypatch, after=2), pytest.raises(KeyboardInterrupt):
        predict(cfg)
    part = Path("found.csv.part")
    lines = part.read_bytes().splitlines()
    if damage == b"row without score":
        row = json.loads(lines[3])
        del row["score"]
        damage = json.dumps(row).encode()
    part.write_bytes(b"\n".join([*lines[:3], damage, *lines[4:]]) + b"\n")
    with interrupted(monkeypatch, after=9) as seen:
        predict(cfg)
    assert seen == [2, 2]
    assert Path("found.csv").read_bytes() == whole


def test_a_full_disk_while_publishing_leaves_the_part_alone(defense, images, monkeypatch):
    save(images, 2)

    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(csv.DictWriter, "writerow", full)
        patch.setattr(csv.DictWriter, "writeheader", lambda table: None)
        with pytest.raises(UapError, match=r"found\.csv could not be written \(No space left"):
            predict(settings(defense))
    assert {p.name for p in Path().iterdir()} == {"defense", "photos", "found.csv.part"}
    predict(settings(defense))
    assert len(table()) == 2


def test_a_killed_process_leaves_what_the_next_one_takes_up(defense, images):
    """SIGKILL when the third batch is judged."""
    save(images, 6)
    dying = """
import os, signal, sys
from uap_lightning.guard.guard import Guard
inspect, seen = Guard.inspect, []
def dies(guard, x):
    seen.append(x)
    if len(seen) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return inspect(guard, x)
Guard.inspect = dies
from uap_lightning.predict import main
main()
"""
    words = ["images=photos", "output=found.csv", f"defense={defense}", "network=tiny"]
    words += ["accelerator=cpu", "batch_size=2"]
    done = subprocess.run(
        [sys.executable, "-c", dying, *words], env=environment(), capture_output=True, check=False
    )
    assert done.returncode == -9, done.stderr
    assert len(Path("found.csv.part").read_text().splitlines()) == 5
    predict(settings(defense, "batch_size=2"))
    assert [row["file"] for row in table()] == [f"{i:03}.png" for i in range(6)]
    assert sorted(p.name for p in Path().iterdir()) == ["defense", "found.csv", "photos"]
