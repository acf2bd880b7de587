"""Batches arrive whole and in order, and the next one is read before it is asked for."""

from threading import Event

import pytest
import torch

from uap_lightning.attacks.reading import read_ahead

CPU = torch.device("cpu")


class Noted:
    """Images whose every value is their number; ``begun`` has the batches that were begun."""

    def __init__(self):
        self.begun, self.second = [], Event()

    def take(self, numbers):
        self.begun.append(list(numbers))
        if len(self.begun) == 2:
            self.second.set()
        if 99 in numbers:
            raise OSError("the file is gone")
        return torch.tensor(numbers, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)


def test_batches_are_those_that_were_asked_for_in_their_order(images):
    batches = [[3, 1], [0], [7, 7, 2]]
    found = list(read_ahead(images, batches, CPU))
    assert [batch.dtype for batch in found] == [torch.float32] * 3
    for batch, numbers in zip(found, batches, strict=True):
        assert torch.equal(batch, images.take(numbers).float())


def test_no_batch_is_none(images):
    assert list(read_ahead(images, [], CPU)) == []


def test_one_batch_is_read_ahead_and_no_more():
    images = Noted()
    reading = read_ahead(images, [[n] for n in range(5)], CPU)
    assert float(next(reading).mean()) == 0
    assert images.second.wait(20)
    assert images.begun == [[0], [1]]
    assert float(next(reading).mean()) == 1
    reading.close()
    assert len(images.begun) <= 3


def test_a_batch_that_cannot_be_read_is_told_of_in_its_turn():
    reading = read_ahead(Noted(), [[1], [99]], CPU)
    assert float(next(reading).mean()) == 1
    with pytest.raises(OSError, match="the file is gone"):
        next(reading)
