"""The state of a guard with memory: what comes back, and what is refused."""

import json
import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.guard.streamed import attacked, logo, make_guard, make_whitener, perturbation
from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, digest_of_file
from uap_lightning.guard import stream_state
from uap_lightning.guard.stream_guard import StreamGuard


@pytest.fixture(scope="module")
def single():
    return make_guard()


def stream(seed, count=18):
    images = scenes(count, seed=seed)
    images[::3] = attacked(images[::3], perturbation())
    images[1::3] = attacked(images[1::3], logo())
    return images


def learned(single):
    guard = StreamGuard(single, make_whitener(), memory=40, pixels=5)
    for part in torch.split(stream(2), 6):
        guard(part)
    return guard


@pytest.fixture(scope="module")
def saved(single, tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    learned(single).save(folder)
    return folder


def equal(one, other):
    for name, value in vars(one).items():
        there = getattr(other, name)
        same = torch.equal(value, there) if isinstance(value, torch.Tensor) else value == there
        if not same:
            return False
    return True


def test_a_restored_guard_answers_as_the_one_that_was_saved(tmp_path, single):
    guard = learned(single)
    guard.save(tmp_path / "state")
    restored = StreamGuard.load(tmp_path / "state", single)
    assert {name for name, _, _ in restored.found()} == {name for name, _, _ in guard.found()}
    for part in torch.split(stream(3, 60), 6):
        assert equal(guard(part), restored(part))
    # Both have learned the same since then, to the last bit.
    for one, other in zip(guard.found(), restored.found(), strict=True):
        assert one[0] == other[0]
        assert one[2] == other[2]
        assert torch.equal(one[1].images, other[1].images)
        assert torch.equal(one[1].template, other[1].template)
    guard.save(tmp_path / "one")
    restored.save(tmp_path / "other")
    files = [json.loads((tmp_path / f / "stream.json").read_text()) for f in ("one", "other")]
    assert files[0] == files[1]


def test_a_guard_that_has_seen_nothing_comes_back_too(tmp_path, single):
    StreamGuard(single, make_whitener()).save(tmp_path)
    assert not StreamGuard.load(tmp_path, single)(scenes(2)).suspected.any()


def test_a_save_that_is_stopped_leaves_the_old_state(tmp_path, saved, single, monkeypatch):
    folder = tmp_path / "state"
    shutil.copytree(saved, folder)
    before = (folder / "stream.json").read_bytes()
    guard = StreamGuard.load(folder, single)
    guard(stream(4))

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stream_state, "write_json", stopped)
    with pytest.raises(KeyboardInterrupt):
        guard.save(folder)
    assert (folder / "stream.json").read_bytes() == before
    StreamGuard.load(folder, single)
    monkeypatch.undo()
    guard.save(folder)
    # Of the two files of tensors the old one is gone.
    assert len(list(folder.glob("stream-*.safetensors"))) == 1


@pytest.mark.parametrize("which", ["stream.json", "tensors"])
@pytest.mark.parametrize("change", ["missing", "truncated", "altered"])
def test_what_is_not_whole_is_refused(tmp_path, saved, single, which, change):
    folder = tmp_path / "state"
    shutil.copytree(saved, folder)
    [file] = [folder / which] if which == "stream.json" else folder.glob("*.safetensors")
    content = file.read_bytes()
    if change == "missing":
        file.unlink()
    elif change == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif which == "stream.json":
        file.write_bytes(content.replace(b'"harmful": true', b'"harmful": false', 1))
    else:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UapError) as error:
        StreamGuard.load(folder, single)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_state_of_another_defence_is_refused(saved, single):
    class Loaded:
        digest = "0123456789abcdef"
        network = single.network

    with pytest.raises(UapError, match=r"defence none .*this guard has 0123456789ab"):
        StreamGuard.load(saved, Loaded())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("memory.numbers", lambda t: t[:-1]),
        ("memory.whole", lambda t: t[:, :, :8]),
        ("memory.sketches", lambda t: t.int()),
        ("suspect 0.template", lambda t: t * float("nan")),
        ("suspect 0.images", lambda t: t.repeat(60, 1, 1, 1)),
        ("suspect 0.pattern", None),
        ("whitener.power", lambda t: -t),
    ],
)
def test_tensors_that_do_not_fit_are_refused_though_their_digests_do(
    tmp_path, saved, single, name, change
):
    folder = tmp_path / "state"
    shutil.copytree(saved, folder)
    [file] = folder.glob("*.safetensors")
    tensors = load_file(file)
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, file)
    content = json.loads((folder / "stream.json").read_text())
    digest = digest_of_file(file)
    file.rename(folder / f"stream-{digest[:16]}.safetensors")
    (folder / "stream.json").write_text(json.dumps({**content, "tensors_sha256": digest}))
    with pytest.raises(UapError, match=r"stream-\w+\.safetensors (does not fit|holds)"):
        StreamGuard.load(folder, single)


@pytest.mark.parametrize(
    "change", [{"size": 4096}, {"memory": 10**9}, {"pixels": 0}, {"rate": 2.0}, {"remembered": 3}]
)
def test_settings_out_of_range_are_refused_though_their_digests_fit(
    tmp_path, saved, single, change
):
    folder = tmp_path / "state"
    shutil.copytree(saved, folder)
    state = json.loads((folder / "stream.json").read_text())
    state["content"] |= change
    state["content_sha256"] = digest_of(state["content"])
    (folder / "stream.json").write_text(json.dumps(state))
    with pytest.raises(UapError, match="does not fit"):
        StreamGuard.load(folder, single)


def test_a_state_is_plain_numbers_and_text(saved):
    state = json.loads((saved / "stream.json").read_text())
    assert {path.suffix for path in saved.iterdir()} <= {".json", ".safetensors", ""}
    found = stream_state.State(**{**state, "content": stream_state.Content(**state["content"])})
    assert asdict(found) == state
