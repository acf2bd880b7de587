"""What is added to LitServe: batches, and requests that nobody waits for."""

import queue

import pytest

from uap_lightning.service import lit
from uap_lightning.service.lit import Ahead, GuardAPI, SleepingLoop, Waiting


class Sent:
    def __init__(self):
        self.sent = []

    def send(self, *arguments, **settings):
        self.sent.append(arguments)


@pytest.mark.parametrize("wait", [0.0, 1e-9, 0.05])
def test_no_request_is_lost_however_short_a_batch_waits(wait):
    api = GuardAPI(lambda device: None, 4, wait, 1)
    api.request_timeout = 30.0
    loop, waiting = SleepingLoop(), queue.Queue()
    for number in range(6):
        waiting.put((0, str(number), float("inf"), number))
    found = []
    while not waiting.empty():
        batch, late = loop.get_batch_requests(api, waiting, Sent())
        assert 1 <= len(batch) <= 4
        assert not late
        found += [request for *_, request in batch]
    assert found == [0, 1, 2, 3, 4, 5]
    assert loop.get_batch_requests(api, waiting, Sent()) == ([], [])


def test_what_was_taken_out_comes_first():
    rest = queue.Queue()
    rest.put("second")
    ahead = Ahead("first", rest)
    assert [ahead.get(timeout=1), ahead.get(timeout=1)] == ["first", "second"]
    with pytest.raises(queue.Empty):
        ahead.get_nowait()


def test_requests_that_gave_up_are_forgotten_and_those_that_wait_are_not(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(lit.time, "monotonic", lambda: now[0])
    waiting = Waiting(10.0)
    for number in range(100):
        now[0] = float(number)
        waiting[str(number)] = number
        if number % 2:
            del waiting[str(number)]  # answered
    assert sorted(map(int, waiting)) == [90, 92, 94, 96, 98]
    assert len(waiting._since) <= 12
