"""The guard with memory in streams whose attacked images are known, and against who abuses it."""

import logging
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guard.streamed import (
    attacked,
    logo,
    make_guard,
    make_whitener,
    noise,
    perturbation,
)
from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.guard.guard import Guard
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.streams import discovery as discovering
from uap_lightning.streams.store import PatternStore


@pytest.fixture(scope="module")
def whitener():
    return make_whitener()


@pytest.fixture(scope="module")
def single():
    return make_guard()


def walk(guard, images, batch=6):
    """The answers to a stream, together."""
    parts = [guard(part) for part in torch.split(images, batch)]
    names = [name for part in parts for name in part.pattern]
    return torch.cat([part.logits for part in parts]), names, parts


def moved(images, rho):
    """Images with a pattern that lies elsewhere, or is negated, in each; and how it lies."""
    generator = torch.Generator().manual_seed(0)
    laid = []
    for _ in images:
        shift = torch.randint(64, (2,), generator=generator).tolist()
        sign = 1 - 2 * int(torch.randint(2, (1,), generator=generator))
        laid.append(sign * rho.roll(shift, (-2, -1)))
    added = torch.stack(laid)
    return (images.float() + added).round().clamp(0, 255).to(torch.uint8), added


def suspected(parts):
    return torch.cat([part.suspected for part in parts])


def test_an_unknown_perturbation_is_subtracted_from_its_fourth_image_on(whitener, single):
    guard, images = StreamGuard(single, whitener), scenes(48, seed=2)
    stream, rho = images.clone(), perturbation()
    stream[::2] = attacked(images[::2], rho)
    logits, names, parts = walk(guard, stream)
    [(name, suspect, verdict)] = guard.found()
    assert verdict.harmful
    assert suspect.count == 24
    # From the batch with the fourth one on, each image with it and no other.
    assert names[6:] == [name, None] * 21
    assert torch.equal(suspected(parts).nonzero()[:, 0], torch.arange(2, 48, 2))
    clean = single.network.predict(images.float())
    right = logits.argmax(1) == clean
    undefended = single.network.predict(stream.float()) == clean
    assert float(right[12::2].double().mean()) > 0.85
    assert float(undefended[12::2].double().mean()) < 0.4
    # What the network was given is the image minus the pattern, and the answer is to that.
    last = parts[-1]
    expected = (stream[-6].float() - suspect.pattern).clamp(0, 255)
    assert torch.equal(last.given[0], expected)
    torch.testing.assert_close(last.logits, single.network(last.given))


def test_a_perturbation_that_is_moved_anew_for_each_image_is_subtracted_where_it_lies(
    whitener, single
):
    guard, images = StreamGuard(single, whitener), scenes(48, seed=2)
    stream, laid = moved(images, perturbation(eps=20.0))
    logits, names, parts = walk(guard, stream)
    [(name, suspect, verdict)] = guard.found()
    assert verdict.harmful
    assert suspect.count == 48
    assert names[6:] == [name] * 42
    used = torch.cat([part.given for part in parts])
    left = (used - images.float())[12:].abs().mean()
    assert float(left) < 0.5 * float(laid[12:].abs().mean())
    clean = single.network.predict(images.float())
    right = float((logits.argmax(1) == clean)[12:].double().mean())
    undefended = float((single.network.predict(stream.float()) == clean)[12:].double().mean())
    assert right > undefended + 0.2


def test_a_known_pattern_is_found_in_its_first_image_wherever_it_lies(tmp_path, whitener, single):
    store = PatternStore(tmp_path, 64)
    store.add(perturbation(), "known", "tiny", {})
    images = scenes(12, seed=3)
    stream, laid = moved(images, perturbation())
    guard = StreamGuard(single, whitener, PatternStore(tmp_path, 64))
    seen = guard(torch.cat([stream, scenes(12, seed=4)]))
    assert seen.pattern == ["known"] * 12 + [None] * 12
    assert torch.equal(seen.given[:12], (stream.float() - laid).clamp(0, 255))
    assert not bool(seen.suspected[12:].any())


@pytest.mark.parametrize("strength", [0.1, 0.15, 0.2, 0.3])
def test_a_pattern_near_the_threshold_changes_no_clean_users_answer(whitener, single, strength):
    users, others = scenes(24, seed=5), scenes(24, seed=6)
    guard = StreamGuard(single, whitener)
    weak = attacked(others, perturbation() * strength)
    for place in range(24):
        guard(weak[place][None])
        seen, alone = guard(users[place][None]), single.inspect(users[place][None])
        assert torch.equal(seen.logits, alone.logits)
        assert not bool(seen.suspected)


def test_before_it_is_known_what_is_shared_is_rectified(whitener, single):
    guard = StreamGuard(single, whitener)
    stream = attacked(scenes(2, seed=3), perturbation())
    first, second = guard(stream[:1]), guard(stream[1:])
    assert not bool(first.suspected.any())
    assert (bool(second.suspected), bool(second.perturbed), second.pattern) == (True, True, [None])
    rectified = single.rectifier(stream[1:].float())
    assert torch.equal(second.given, rectified)
    assert not torch.equal(second.given, stream[1:].float())


@settings(max_examples=12, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["clean", "a", "b", "logo", "both"]), min_size=8, max_size=24),
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 8),
    floating=st.booleans(),
)
def test_where_nothing_is_matched_logits_are_the_single_images_guards(
    whitener, single, kinds, seed, batch, floating
):
    added = {
        "clean": torch.zeros(3, 64, 64),
        "a": perturbation(0),
        "b": noise(9, 6.0),
        "logo": logo(),
        "both": logo() + perturbation(1),
    }
    images = scenes(len(kinds), seed=seed)
    made = torch.stack([attacked(i, added[k]) for i, k in zip(images, kinds, strict=True)])
    guard, given_ = StreamGuard(single, whitener), made.float() if floating else made
    for part, wanted in zip(
        torch.split(given_, batch), torch.split(torch.arange(len(kinds)), batch), strict=True
    ):
        alone, seen = single.inspect(part), guard(part)
        for place, number in enumerate(wanted.tolist()):
            if not bool(seen.suspected[place]):
                assert seen.pattern[place] is None
                assert torch.equal(seen.logits[place], alone.logits[place])
                assert bool(seen.perturbed[place]) == bool(alone.perturbed[place])
            if kinds[number] == "clean":
                assert not bool(seen.suspected[place])


def test_a_watermark_is_named_and_left_alone(whitener, single):
    guard, stream = StreamGuard(single, whitener), attacked(scenes(30, seed=4), logo())
    _, names, parts = walk(guard, stream, batch=1)
    [(_, suspect, verdict)] = guard.found()
    assert (verdict.harmful, verdict.kind) == (False, "local")
    assert suspect.count == 30
    assert names == [None] * 30
    # The second and the third are rectified; from the fourth on it is known to be harmless.
    assert suspected(parts).nonzero()[:, 0].tolist() == [1, 2]


def test_a_watermark_in_a_poisoned_pattern_changes_nobody_elses_image(whitener, single):
    guard = StreamGuard(single, whitener)
    walk(guard, attacked(scenes(16, seed=6), logo() + perturbation()))
    [(name, _, verdict)] = guard.found()
    assert verdict.harmful
    users = attacked(scenes(30, seed=7), logo())
    seen = [guard(part) for part in torch.split(users, 1)]
    assert [one.pattern for one in seen] == [[None]] * 30
    # The filter alone would have taken most for the attacker's.
    threshold = whitener.null.threshold(1e-4)
    assert sum(float(one.score) > threshold for one in seen) > 15
    after = [one for one in seen if not bool(one.suspected)]
    assert len(after) >= 27  # until their own watermark is known to be harmless
    for one, image in zip(seen, users, strict=True):
        if not bool(one.suspected):
            assert torch.equal(one.logits, single(image[None]))
    again = guard(attacked(scenes(3, seed=8), logo() + perturbation()))
    assert again.pattern == [name] * 3


def test_a_flood_of_patterns_loses_nothing_of_one_that_is_nearly_known(
    whitener, single, monkeypatch
):
    monkeypatch.setattr(discovering, "SUSPECTS", 3)
    guard, images = StreamGuard(single, whitener), scenes(40, seed=9)
    rho = perturbation()
    walk(guard, attacked(images[:3], rho))
    for number in range(8):  # each a pattern of its own, in four images
        pair = images[3 + 4 * number : 7 + 4 * number]
        walk(guard, attacked(pair, noise(20 + number, 8.0)))
        assert len(guard.found()) <= 3
    seen = guard(attacked(images[35:37], rho))
    assert seen.suspected.all()
    assert seen.pattern[1] is not None


def test_harmful_patterns_are_not_evicted_for_harmless_ones(whitener, single, monkeypatch):
    monkeypatch.setattr(discovering, "SUSPECTS", 2)
    guard, images = StreamGuard(single, whitener), scenes(60, seed=10)
    walk(guard, attacked(images[:4], perturbation()))
    [(name, _, _)] = guard.found()
    for number in range(5):
        more = images[4 + 10 * number : 14 + 10 * number]
        walk(guard, attacked(more, noise(30 + number, 8.0)))
    assert name in [one for one, _, _ in guard.found()]
    assert guard(attacked(images[58:], perturbation())).pattern == [name] * 2


def test_images_without_content_are_no_evidence(whitener, single):
    guard = StreamGuard(single, whitener)
    black, grey = (torch.full((5, 3, 64, 64), value, dtype=torch.uint8) for value in (0, 130))
    half = torch.cat([grey[:, :, :32], black[:, :, 32:]], 2)
    one = scenes(1, seed=11).repeat(5, 1, 1, 1)
    stream = torch.cat([black, grey, half, one])
    logits, names, parts = walk(guard, stream)
    assert not suspected(parts).any()
    assert guard.found() == []
    torch.testing.assert_close(logits, single(stream))
    assert names == [None] * 20


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


def test_eight_threads_are_one_stream(whitener, single):
    guard, images = StreamGuard(single, whitener, memory=500, pixels=500), scenes(96, seed=16)
    stream, failed = images.clone(), []
    stream[::2] = attacked(images[::2], perturbation())
    wrong = []

    def serve(part, number):
        try:
            for place, batch in enumerate(torch.split(part, 4)):
                seen = guard(batch)
                clean = ~seen.suspected
                wrong.append(int(seen.suspected[1::2].sum()))
                expected = single(batch)[clean]
                if not torch.equal(seen.logits[clean], expected):
                    failed.append((number, place))
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=serve, args=(part, number))
        for number, part in enumerate(torch.split(stream, 12))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sum(wrong) == 0
    [(_, suspect, verdict)] = guard.found()
    assert verdict.harmful
    assert suspect.count == 48
    assert len(guard.discovery.memory) == 48


def test_memory_is_bounded_whatever_comes(whitener, single):
    guard = StreamGuard(single, whitener, memory=20, pixels=10)
    walk(guard, scenes(60, seed=17), batch=15)
    walk(guard, attacked(scenes(100, seed=18), perturbation()), batch=25)
    memory = guard.discovery.memory
    assert len(memory) <= 20
    assert len(memory.whole) <= 10
    [(_, suspect, _)] = guard.found()
    assert len(suspect.images) == 64
    for tensor in (suspect.images, suspect.template, suspect.pattern):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_bad_images_are_refused_in_one_sentence_and_leave_nothing(whitener, single):
    guard = StreamGuard(single, whitener)
    images = scenes(2, seed=19).float()
    for wrong, said in (
        (images[:, :, :60], "60 x 64 pixels and the stream's are 64 x 64"),
        (images[:0], "at least one"),
        (images * float("nan"), "expected values 0-255"),
        (images * 2, "expected values 0-255"),
        (images / 255, "multiply them by 255"),
    ):
        with pytest.raises(UapError, match=said):
            guard(wrong)
    assert guard.discovery.seen == 0


def test_bad_settings_are_refused_in_one_sentence(tmp_path, whitener, single):
    for options, said in (
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": 0.5}, "rate is 0.5"),
        ({"pixels": 0}, "pixels is 0"),
        ({"memory": 10, "pixels": 20}, "memory is 10 and pixels is 20"),
        ({"store": PatternStore(tmp_path, 80)}, "for images of side 80"),
    ):
        with pytest.raises(UapError, match=said):
            StreamGuard(single, whitener, **options)
    with pytest.raises(UapError, match="put together by hand"):
        StreamGuard(single)


def test_a_defence_without_a_whitener_says_so(defense):
    from uap_lightning.networks.tiny import tiny

    with pytest.raises(UapError, match=r"no whitener.*Whitener\(size\)\.fit"):
        StreamGuard(Guard.load(defense, tiny()))


def test_autocast_does_not_change_what_is_found(whitener, single):
    stream = attacked(scenes(12, seed=20), perturbation())
    plain, cast = StreamGuard(single, whitener), StreamGuard(single, whitener)
    _, names, parts = walk(plain, stream)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, others, there = walk(cast, stream)
    assert others == names
    for part, other in zip(parts, there, strict=True):
        assert torch.equal(part.score, other.score)
