"""Files that are whole or absent."""

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import torch

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import (
    digest_of,
    digest_of_file,
    locked,
    make_folder,
    read_as,
    read_json,
    read_tensors,
    write_atomically,
    write_json,
    write_tensors,
)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "No space left on device.*free some space"),
        (errno.EDQUOT, "quota exceeded.*free some space"),
        (errno.EFBIG, "File too large.*free some space"),
        (errno.EROFS, "Read-only file system.*a place that you may write to"),
    ],
)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, code, said):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UapError, match=said):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UapError, match="cannot be created"):
        make_folder(tmp_path / "file" / "below")
    with pytest.raises(UapError, match="file cannot be created"):
        write_json(tmp_path / "file" / "x", {})


def test_tensors_come_back_with_their_metadata(tmp_path):
    tensor = torch.arange(12.0).reshape(3, 4).T
    write_tensors(tmp_path / "t.safetensors", {"a": tensor}, {"note": "é"})
    tensors, metadata = read_tensors(tmp_path / "t.safetensors")
    assert torch.equal(tensors["a"], tensor)
    assert metadata == {"note": "é"}


def test_a_module_without_tensors_is_written_and_read(tmp_path):
    write_tensors(tmp_path / "t.safetensors", {}, {})
    assert read_tensors(tmp_path / "t.safetensors") == ({}, {})


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.zeros(100)}, {})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UapError, match=r"t\.safetensors is not a readable"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "not valid JSON"),
        ("[1]", "holds a list"),
        ('{"a": NaN}', "a is nan"),
        ('{"a": [-Infinity]}', r"a\.0 is -inf"),
        ('{"a": 1e999}', "a is inf"),
        ('{"a": "\\ud800"}', "not valid JSON .*surrogates not allowed"),
        ('{"\\udfff": 1}', "not valid JSON .*surrogates not allowed"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' comes twice"),
        ("[" * 100_000, "not valid JSON"),
        ("1" * 5000, "not valid JSON"),
    ],
)
def test_json_that_is_not_an_object_is_refused(tmp_path, content, said):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    for read in (lambda: read_json(path, "an object"), lambda: read_as(path, Noted, "an object")):
        with pytest.raises(UapError, match=said) as caught:
            read()
        str(caught.value).encode()
        assert "\n" not in str(caught.value)


@dataclass
class Noted:
    a: float
    note: str = ""


def test_json_is_read_as_a_dataclass_with_every_value_of_its_type(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": 0.1, "note": "\\ud83d\\ude00 é"}')
    assert read_as(path, Noted, "a note") == Noted(0.1, "😀 é")
    for content, said in (('{"note": "b"}', "a: Field required"), ('{"a": "1"}', "a: .*number")):
        path.write_text(content)
        with pytest.raises(UapError, match=said):
            read_as(path, Noted, "a note")


def test_infinity_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("inf")})
    write_json(tmp_path / "x.json", {"a": 1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_text_that_is_not_unicode_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": "é"})
    with pytest.raises(UapError, match=r"x\.json could not be written .*caf\\udce9"):
        write_json(path, {"name": os.fsdecode(b"caf\xe9")})
    assert read_json(path, "a name") == {"a": "é"}


def test_digests_tell_apart_what_json_hardly_can():
    values = [float("nan"), float("inf"), "NaN", "\ud800", "\ud801", "?", None, 1, "1", [1]]
    assert len({digest_of(value) for value in values}) == len(values)
    assert digest_of({"b": float("nan"), "a": "\ud800"}) == digest_of(
        {"a": "\ud800", "b": float("nan")}
    )


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_the_umask_decides_who_may_read(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_json(tmp_path / "x.json", {})
        with locked(tmp_path / ".lock", wait=True):
            pass
    finally:
        os.umask(before)
    for name in ("x.json", ".lock"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("name", ["n" * 300, "é" * 200, "😀" * 80])
def test_a_name_that_is_too_long_is_told(tmp_path, name):
    with pytest.raises(UapError, match=r"could not be written .*name too long.*a name and a place"):
        write_atomically(tmp_path / name, b"")
    with pytest.raises(UapError, match=r"cannot be created .*name too long"):
        make_folder(tmp_path / name)
    for read in (digest_of_file, read_tensors, lambda path: read_json(path, "an object")):
        with pytest.raises(UapError, match=r"cannot be read .*name too long"):
            read(tmp_path / name)
    with (
        pytest.raises(UapError, match=r"could not be locked .*name too long"),
        locked(tmp_path / name, wait=True),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "😀" * 63])
def test_the_longest_names_there_are_can_be_written(tmp_path, name):
    write_atomically(tmp_path / name, b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"


def test_a_file_larger_than_allowed_is_told_and_leaves_nothing(tmp_path):
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
from pathlib import Path
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically
write_atomically(Path({str(tmp_path)!r}) / "f", b"small")
try:
    write_atomically(Path({str(tmp_path)!r}) / "f", bytes(9000))
except UapError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "f could not be written (File too large): free some space" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"small"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_told(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UapError, match=r"could not be written .*Permission denied.*you may write"):
        write_atomically(tmp_path / "f", b"")
    with (
        pytest.raises(UapError, match=r"could not be locked .*Permission denied"),
        locked(tmp_path / ".lock", wait=True),
    ):
        pass


def test_an_interruption_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "f", b"new")
    assert not list(tmp_path.iterdir())


def test_a_pipe_or_a_device_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", tmp_path, os.devnull):
        for read in (digest_of_file, read_tensors, lambda path: read_json(path, "an object")):
            with pytest.raises(UapError, match="is not a regular file"):
                read(type(tmp_path)(path))


HOLDER = """
import sys, time
from pathlib import Path
from uap_lightning.core.storage import locked
with locked(Path(sys.argv[1]), wait=True):
    print("held", flush=True)
    time.sleep(100)
"""


def test_a_lock_is_freed_when_its_holder_is_killed(tmp_path):
    path = tmp_path / ".lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with locked(path, wait=False) as held:
            assert not held
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with locked(path, wait=False) as held:
        assert held


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def unsupported(*arguments):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", unsupported)
    for wait in (True, False):
        said = r"\.lock could not be locked .*file system with locks"
        with ExitStack() as stack, pytest.raises(UapError, match=said):
            stack.enter_context(locked(tmp_path / ".lock", wait=wait))


WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None  # as on Windows
from uap_lightning.guard.guard import Guard
print(Guard.__name__)
"""


def test_the_guard_needs_nothing_that_windows_lacks():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FCNTL], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "Guard\n"), done.stderr


def test_a_lock_is_held_once(tmp_path):
    path = tmp_path / "sub" / ".lock"
    with locked(path, wait=False) as first:
        assert first
        with locked(path, wait=False) as second:
            assert not second
    with locked(path, wait=True) as third:
        assert third


def test_the_digest_of_a_missing_file_names_it(tmp_path):
    with pytest.raises(UapError, match="missing cannot be read"):
        digest_of_file(tmp_path / "missing")
