"""The guard with memory in streams whose attacked images are known."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guard.streamed import attacked, logo, noise, perturbation
from tests.guard.walking import suspected, walk
from tests.tiny import scenes
from uap_lightning.guard import known
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.streams import verification
from uap_lightning.streams.store import PatternStore


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


def test_what_did_harm_is_verified_again_when_its_images_have_doubled(
    whitener, single, monkeypatch
):
    given = []

    def counted(predict, pattern, clean):
        [(_, suspect, _)] = guard.found()
        given.append((suspect.estimated, len(clean)))
        return verification.verify(predict, pattern, clean)

    monkeypatch.setattr(known, "verify", counted)
    guard, rho = StreamGuard(single, whitener), perturbation()
    stream = scenes(130, seed=2)
    stream[:108:2] = attacked(stream[:108:2], rho)
    for image in stream[:108]:
        guard(image[None])
    # On the images that carried it, and as many others as came in between.
    assert given == [(4, 7), (8, 15), (16, 31), (32, 63)]
    # The estimates in between are used all the same, here the one of 48 images.
    [(_, suspect, verdict)] = guard.found()
    assert verdict.harmful
    assert suspect.estimated == 48
    carrier = attacked(scenes(1, seed=5), rho)
    expected = (carrier.float() - suspect.pattern).clamp(0, 255)
    assert torch.equal(guard(carrier).given, expected)
    for image in attacked(stream[108:], rho):
        guard(image[None])
    # 32 of either kind at most.
    assert given[4:] == [(64, 64)]


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


def test_autocast_does_not_change_what_is_found(whitener, single):
    stream = attacked(scenes(12, seed=20), perturbation())
    plain, cast = StreamGuard(single, whitener), StreamGuard(single, whitener)
    _, names, parts = walk(plain, stream)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, others, there = walk(cast, stream)
    assert others == names
    for part, other in zip(parts, there, strict=True):
        assert torch.equal(part.score, other.score)
