"""How many requests are let in, and for how long."""

import asyncio

import httpx
from starlette.responses import PlainTextResponse

from uap_lightning.service import counting
from uap_lightning.service.admission import Admission


def statuses(work, paths, most=2, seconds=5.0):
    """The statuses of requests that come all at once."""

    async def app(scope, receive, send):
        await work(scope)
        await PlainTextResponse("done")(scope, receive, send)

    async def ask():
        transport = httpx.ASGITransport(Admission(app, most, seconds))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await asyncio.gather(*(client.post(path, content=b"x") for path in paths))

    return [(answer.status_code, answer.text) for answer in asyncio.run(ask())]


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


def test_those_that_come_later_are_let_in_again_and_other_paths_always():
    gate = Admission(None, 1, 5.0)

    async def app(scope, receive, send):
        await PlainTextResponse("done")(scope, receive, send)

    gate.app = app

    async def ask():
        transport = httpx.ASGITransport(gate)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return [(await client.post("/predict")).status_code for _ in range(3)]

    assert asyncio.run(ask()) == [200] * 3
    assert gate.inside == 0
    assert [s for s, _ in statuses(slowly, ["/health"] * 4, most=1)] == [200] * 4


def test_who_waits_too_long_is_told():
    before = counted(504)
    [(status, said)] = statuses(never, ["/predict"], seconds=0.05)
    assert status == 504
    assert "no answer within 0.05 seconds" in said
    assert counted(504) == before + 1
