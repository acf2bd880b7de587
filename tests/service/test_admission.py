"""How many requests are let in, and for how long."""

import asyncio
from contextlib import nullcontext

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

from uap_lightning.service import counting
from uap_lightning.service.admission import Admission


def app_of(work):
    """An application that works on a request before it answers."""

    async def app(scope, receive, send):
        await work(scope)
        await PlainTextResponse("done")(scope, receive, send)

    return app


async def asked(gate, paths, together=True):
    transport = httpx.ASGITransport(gate)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        if together:
            return await asyncio.gather(*(client.post(path, content=b"x") for path in paths))
        return [await client.post(path, content=b"x") for path in paths]


def statuses(work, paths, most=2, seconds=5.0):
    """The statuses of requests that come all at once."""
    answers = asyncio.run(asked(Admission(app_of(work), most, seconds), paths))
    return [(answer.status_code, answer.text) for answer in answers]


def counted(status):
    return counting.REQUESTS.labels(status)._value.get()


async def slowly(scope):
    await asyncio.sleep(0.05)


async def never(scope):
    await asyncio.sleep(60)


def test_more_than_so_many_at_once_are_told_to_come_again():
    before = counted(503)
    answers = statuses(slowly, ["/predict"] * 5, most=3)
    assert [status for status, _ in answers] == [200] * 3 + [503] * 2
    assert "3 requests are waiting" in answers[-1][1]
    assert counted(503) == before + 2


async def at_once(scope):
    pass


def test_those_that_come_later_are_let_in_again_and_other_paths_always():
    gate = Admission(app_of(at_once), 1, 5.0)
    answers = asyncio.run(asked(gate, ["/predict"] * 3, together=False))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert gate.inside == 0
    assert [s for s, _ in statuses(slowly, ["/health"] * 4, most=1)] == [200] * 4


def test_who_waits_too_long_is_told_and_gives_up_his_place():
    before = counted(504)
    gate = Admission(app_of(never), 1, 0.05)
    answers = asyncio.run(asked(gate, ["/predict"] * 2, together=False))
    assert [answer.status_code for answer in answers] == [504] * 2
    assert "no answer within 0.05 seconds" in answers[0].text
    assert answers[0].headers["Retry-After"] == "1"
    assert counted(504) == before + 2
    assert gate.inside == 0


async def hangs_up(scope):
    raise ClientDisconnect


async def breaks(scope):
    raise RuntimeError("the server")


def test_who_hangs_up_and_what_breaks_give_up_their_place_and_are_counted():
    for work, status in ((hangs_up, 499), (breaks, 500)):
        before = counted(status)
        gate = Admission(app_of(work), 1, 5.0)
        scope = {"type": "http", "path": "/predict", "method": "POST", "headers": []}
        raised = pytest.raises(RuntimeError) if work is breaks else nullcontext()
        with raised:
            asyncio.run(gate(scope, None, None))
        assert counted(status) == before + 1
        assert gate.inside == 0
