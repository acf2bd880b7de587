"""Guards with memory and the store of patterns that they share."""

import logging

import torch

from tests.guard.streamed import attacked, perturbation
from tests.guard.walking import walk
from tests.tiny import scenes
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.streams.store import PatternStore


def test_what_one_guard_has_verified_another_subtracts_from_its_next_batch_on(
    tmp_path, whitener, single
):
    first, second = (
        StreamGuard(single, whitener, PatternStore(tmp_path / "store", 64)) for _ in range(2)
    )
    images, rho = scenes(30, seed=12), perturbation()
    assert second(attacked(images[:1], rho)).pattern == [None]
    walk(first, attacked(images[1:9], rho))
    [(name, _, verdict)] = first.found()
    [known] = PatternStore(tmp_path / "store", 64).known()
    assert known.record.attack == {"name": "found", "images": 8, "changed": verdict.changed}
    seen = second(attacked(images[9:10], rho))
    assert seen.pattern == [name]
    # Its own images refine what the first left unfinished, under the same name.
    walk(second, attacked(images[10:26], rho))
    files = [path.name for path in (tmp_path / "store").iterdir()]
    assert files == [f"{name}.safetensors"]
    [known] = PatternStore(tmp_path / "store", 64).known()
    assert known.record.attack["images"] == 18
    # A pattern that is taken out of the store is forgotten by who did not find it.
    third = StreamGuard(single, whitener, PatternStore(tmp_path / "store", 64))
    assert third(attacked(images[26:27], rho)).pattern == [name]
    (tmp_path / "store" / files[0]).unlink()
    assert third(attacked(images[27:28], rho)).pattern == [None]


def test_a_pattern_that_somebody_has_met_before_is_found_in_its_first_image(
    tmp_path, whitener, single
):
    store, rho = PatternStore(tmp_path / "store", 64), perturbation(3)
    for number in range(5):
        store.add(perturbation(number), f"known-{number}", "tiny", {})
    stream = attacked(scenes(10, seed=13), rho)
    guard = StreamGuard(single, whitener, store)
    _, names, parts = walk(guard, stream)
    assert names == ["known-3"] * 10
    assert torch.equal(parts[0].given, (stream[:6].float() - rho).clamp(0, 255))
    assert guard.found() == []  # what is imported is finished: no images are kept of it


def test_a_store_that_cannot_be_written_is_said_once_and_the_guard_goes_on(
    tmp_path, whitener, single, caplog
):
    (tmp_path / "file").write_text("")
    guard = StreamGuard(single, whitener, PatternStore(tmp_path / "file" / "store", 64))
    with caplog.at_level(logging.WARNING):
        _, names, _ = walk(guard, attacked(scenes(24, seed=14), perturbation()))
    assert all(name is not None for name in names[6:])
    written = [r for r in caplog.records if "this process alone" in r.message]
    assert len(written) == 1


def test_hostile_files_in_the_store_change_no_clean_users_answer(tmp_path, whitener, single):
    store = PatternStore(tmp_path, 64)
    users = scenes(12, seed=15)
    store.add(200 * (users[0].float() / 255), "a photograph", "tiny", {})
    store.add(30 * perturbation().clamp(-8, 8), "far too strong", "tiny", {})
    store.add(torch.zeros(3, 64, 64), "nothing", "tiny", {})
    guard = StreamGuard(single, whitener, store)
    seen = guard(users[1:])
    assert seen.pattern == [None] * 11
    assert torch.equal(seen.logits, single(users[1:]))
    # Too strong for what is there: it is rectified, as without the file.
    strong = guard(attacked(users[1:3], perturbation()))
    assert strong.pattern == [None] * 2
