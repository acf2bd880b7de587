"""Who is let in: at most so many requests at once, each for so many seconds."""

import asyncio
import time

from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from uap_lightning.service import counting

PATH = "/predict"


class Admission:
    """ASGI middleware around ``/predict``: limits, counts and times its requests.

    Args:
        app: the application behind it.
        most: requests at work or waiting; any more are answered by 503.
        seconds: that a request may take, its body's arrival included; then it is answered by 504.
    """

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self.app = app
        self.most = most
        self.seconds = seconds
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self.app(scope, receive, send)
            return
        status, began = 0, time.monotonic()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        async def refuse(code: int, said: str) -> None:
            headers = {"Retry-After": "1"}
            answer = JSONResponse({"detail": said}, code, headers)
            await answer(scope, receive, noted)

        if self.inside >= self.most:
            await refuse(503, f"{self.most} requests are waiting: try again later.")
            counting.REQUESTS.labels(status).inc()
            return
        self.inside += 1
        counting.WAITING.inc()
        try:
            async with asyncio.timeout(self.seconds):
                await self.app(scope, receive, noted)
        except TimeoutError:
            if not status:
                await refuse(504, f"no answer within {self.seconds:g} seconds: try again later.")
        except ClientDisconnect:
            status = 499  # as web servers note it; nobody is there to read it
        except Exception:
            status = status or 500
            raise
        finally:
            self.inside -= 1
            counting.WAITING.dec()
            counting.REQUESTS.labels(status).inc()
            counting.SECONDS.observe(time.monotonic() - began)
