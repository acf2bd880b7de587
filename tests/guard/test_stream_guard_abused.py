"""The guard with memory against who abuses it, and what it refuses."""

import pytest
import torch

from tests.guard.streamed import attacked, logo, noise, perturbation
from tests.guard.walking import suspected, walk
from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.guard.guard import Guard
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.streams import discovery as discovering
from uap_lightning.streams.store import PatternStore


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
