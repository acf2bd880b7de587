"""Discovery in streams whose attacked images are known."""

import pytest
import torch

from tests.tiny import scenes
from uap_lightning.streams import discovery as module
from uap_lightning.streams.discovery import Discovery
from uap_lightning.streams.null import Null
from uap_lightning.streams.whitening import Whitener


@pytest.fixture(scope="module")
def whitener():
    return Whitener(64).fit(scenes(120, seed=1))


def pattern(seed=0, eps=10.0):
    generator = torch.Generator().manual_seed(seed)
    return eps * torch.randn(3, 64, 64, generator=generator).sign()


def attacked(images, rho):
    return (images.float() + rho).round().clamp(0, 255).to(torch.uint8)


def walk(whitener, images, batch=5, **options):
    found = Discovery(whitener, **options)
    answers = []
    for part in torch.split(images, batch):
        answers += found.observe(part, whitener(part))
    return found, answers


def test_three_among_sixty_are_found_and_nothing_else(whitener):
    images, rho = scenes(60, seed=2), pattern()
    places = [7, 31, 52]
    images[places] = attacked(images[places], rho)
    found, answers = walk(whitener, images)
    [suspect] = found.suspects
    assert suspect.count == 3
    assert sorted(map(bytes_of, suspect.images)) == sorted(map(bytes_of, images[places]))
    # The first is known by the second: from there on each is said at once.
    assert [n for n, answer in enumerate(answers) if answer is not None] == places[1:]


def bytes_of(image):
    return image.numpy().tobytes()


def test_clean_streams_have_no_suspects(whitener):
    assert walk(whitener, scenes(150, seed=3))[0].suspects == []


def test_two_patterns_are_two(whitener):
    images = scenes(40, seed=4)
    rhos = [pattern(seed) for seed in (0, 1)]
    for place in range(40):
        images[place] = attacked(images[place : place + 1], rhos[place % 2])[0]
    found, answers = walk(whitener, images)
    assert len(found.suspects) == 2
    for suspect in found.suspects:
        cosines = [
            float(torch.nn.functional.cosine_similarity(suspect.pattern.flatten(), r.flatten(), 0))
            for r in rhos
        ]
        assert max(cosines) > 0.8
        assert min(cosines) < 0.2
    assert sum(answer is not None for answer in answers) == 38


def test_one_photograph_again_and_frames_of_one_scene_are_no_evidence(whitener):
    images = scenes(20, seed=5)
    frames = images[:1].repeat(10, 1, 1, 1).float()
    frames += torch.randn(frames.shape, generator=torch.Generator().manual_seed(0)) * 2
    again = torch.cat([images, images, frames.round().clamp(0, 255).to(torch.uint8)])
    assert walk(whitener, again)[0].suspects == []
    plain = torch.zeros(12, 3, 64, 64, dtype=torch.uint8)
    assert walk(whitener, torch.cat([plain, plain + 200]))[0].suspects == []


def test_memory_is_bounded_and_what_it_lost_is_not_found(whitener):
    images, rho = scenes(60, seed=6), pattern()
    images[[0, 59]] = attacked(images[[0, 59]], rho)
    found, _ = walk(whitener, images, memory=20, pixels=5)
    assert len(found.memory.numbers) == len(found.memory.sketches) == 20
    assert len(found.memory.thumbnails) == 20
    assert sorted(found.memory.whole) == list(range(55, 60))
    assert found.suspects == []
    # A sketch alone tells too, when its pixels are gone.
    [suspect] = walk(whitener, images, memory=60, pixels=5)[0].suspects
    assert (suspect.count, len(suspect.images)) == (2, 1)


def test_suspects_are_bounded_and_the_smallest_makes_room(whitener, monkeypatch):
    monkeypatch.setattr(module, "SUSPECTS", 2)
    images = scenes(30, seed=7)
    for place in range(10):
        images[place] = attacked(images[place : place + 1], pattern(0))[0]
    for place in range(10, 30):
        images[place] = attacked(images[place : place + 1], pattern(1 + (place - 10) // 4))[0]
    found, _ = walk(whitener, images)
    assert len(found.suspects) == 2
    assert max(suspect.count for suspect in found.suspects) == 10
    for suspect in found.suspects:
        places = [int((images == kept).flatten(1).all(1).nonzero()) for kept in suspect.images]
        assert len(set(places)) == len(places)
        assert len({max(0, 1 + (place - 10) // 4) for place in places}) == 1


def test_the_reservoir_is_bounded(whitener, monkeypatch):
    monkeypatch.setattr(module, "RESERVOIR", 6)
    images = attacked(scenes(20, seed=8), pattern())
    [suspect] = walk(whitener, images)[0].suspects
    assert (suspect.count, len(suspect.images), suspect.estimated) == (20, 6, 6)


def test_the_rate_of_false_alarms_is_an_images_not_a_pairs(whitener, monkeypatch):
    asked = []

    def spy(null, rate):
        asked.append(rate)
        return 1e9

    monkeypatch.setattr(Null, "threshold", spy)
    walk(whitener, scenes(6, seed=9), rate=0.01)
    assert asked == pytest.approx([0.01 / max(1, count) for count in range(6)])
