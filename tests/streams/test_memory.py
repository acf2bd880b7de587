"""The ring of the latest images against a plain list of them, and its bounds."""

import random

import numpy as np
import torch

from tests.tiny import scenes
from uap_lightning.streams.memory import SMALL, Memory
from uap_lightning.streams.sketches import BITS, sketch_scores

WORDS = np.random.default_rng(0).integers(0, 2**63, (400, BITS // 64), np.uint64)


def fill(memory, numbers, images=None):
    for number in numbers:
        image = torch.full((3, 64, 64), number % 256, dtype=torch.uint8)
        image = image if images is None else images[number]
        memory.add(image, WORDS[number], 0.5, torch.full((SMALL,), float(number)))


def test_it_is_a_list_of_the_latest_from_which_some_are_taken():
    memory, kept, order = Memory(20, 6), [], random.Random(0)
    for number in range(150):
        fill(memory, [number])
        kept = [*kept, number][-20:] if len(kept) == 20 else [*kept, number]
        kept = [n for n in kept if n > number - 20]
        if order.random() < 0.3:
            gone = order.sample(kept, min(2, len(kept)))
            memory.forget([n % 20 for n in gone])
            kept = [n for n in kept if n not in gone]
        assert sorted(memory.numbers[memory.numbers >= 0].tolist()) == kept
        assert len(memory) == len(kept)
        assert set(memory.whole) <= set(kept)
        assert len(memory.whole) <= 6
        for place in np.flatnonzero(memory.numbers >= 0).tolist():
            held = int(memory.numbers[place])
            assert float(memory.thumbnails[place][0]) == held
            assert np.array_equal(memory.sketches[place], WORDS[held])
            if held in memory.whole:
                assert int(memory.whole[held][0, 0, 0]) == held % 256


def test_a_search_is_a_comparison_with_each_and_leaves_out_what_is_gone():
    memory = Memory(300, 3)
    assert len(memory.search(WORDS[0])) == 0
    fill(memory, range(200))
    memory.forget([7])
    found = memory.search(WORDS[7])
    expected = sketch_scores(WORDS[7:8], WORDS[:200])[0]
    assert found[7] == -np.inf
    assert np.array_equal(np.delete(found, 7), np.delete(expected, 7))


def test_it_holds_nothing_of_the_batches_that_it_came_from():
    memory, images = Memory(50, 50), scenes(40)
    fill(memory, range(40), images)
    for image in memory.whole.values():
        assert image.untyped_storage().nbytes() == 50 * image.numel()
    before = memory.whole[3].clone()
    images.zero_()  # the caller uses its buffer again
    assert torch.equal(memory.whole[3], before)


def test_room_for_whole_images_is_made_as_they_come_and_never_for_more():
    memory, room = Memory(700, 600), []
    for first in range(0, 1_400, 100):
        fill(memory, [number % 400 for number in range(first, first + 100)])
        held = {image.untyped_storage() for image in memory.whole.values()}
        sizes = {one.data_ptr(): one.nbytes() for one in held}
        room.append(sum(sizes.values()) // (3 * 64 * 64))
    assert room == [256, 256, 512, 512, 512, *[600] * 9]


def test_a_million_sketches_take_less_than_two_gigabytes():
    memory = Memory(1_000_000, 1)
    arrays = (memory.numbers, memory.sketches, memory.lengths, memory.thumbnails.numpy())
    assert sum(array.nbytes for array in arrays) < 2e9
