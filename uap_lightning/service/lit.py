"""A guard on Lightning's own server, LitServe: batches, workers, a health check."""

import asyncio
import queue
import signal
from collections.abc import Callable
from typing import Annotated, Any

import litserve
import torch
from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse
from litserve.loops.simple_loops import BatchedLoop

from uap_lightning.service.admission import PATH, Admission
from uap_lightning.service.answering import Answer, Answering, Question
from uap_lightning.service.counting import counted
from uap_lightning.service.receiving import Receiver

_NAP = 0.05  # seconds


async def receive(request: Request, logits: bool = False) -> Question:
    """The image in a request's body, decoded beside other requests."""
    receiver: Receiver = request.app.state.receiver
    body = await receiver.read(request.stream(), request.headers.get("content-length"))
    return Question(await asyncio.to_thread(receiver.pixels, body), logits)


class Ahead:
    """A queue of which the first item has been taken out already."""

    def __init__(self, first: object, rest: Any) -> None:
        self.first = [first]
        self.rest = rest

    def get(self, timeout: float | None = None) -> object:
        """The next item; the first one at once."""
        return self.first.pop() if self.first else self.rest.get(timeout=timeout)

    def get_nowait(self) -> object:
        """The next item, if there is one."""
        return self.first.pop() if self.first else self.rest.get_nowait()


class SleepingLoop(BatchedLoop):  # type: ignore[misc]
    """Batches as LitServe makes them, but asleep while there are no requests.

    LitServe asks its queue a thousand times a second, which costs a third of a processor core;
    this asks twenty times.
    """

    def get_batch_requests(
        self, lit_api: litserve.LitAPI, request_queue: Any, transport: Any
    ) -> tuple[list[Any], list[Any]]:
        """The requests of the next batch, and those that waited for too long."""
        try:
            # Whatever comes while a worker that was killed still waits is lost with it.
            first = request_queue.get(timeout=_NAP)
        except queue.Empty:
            return [], []
        found: tuple[list[Any], list[Any]] = super().get_batch_requests(
            lit_api, Ahead(first, request_queue), transport
        )
        return found


class GuardAPI(litserve.LitAPI):  # type: ignore[misc]
    """What LitServe's workers do with the images of several requests.

    Args:
        make: called in each worker with its device.
        batch_size: images that are answered together at most.
        wait: seconds that a batch waits for more images.
        threads: of PyTorch in each worker.
    """

    def __init__(
        self, make: Callable[[str], Answering], batch_size: int, wait: float, threads: int
    ) -> None:
        super().__init__(
            max_batch_size=batch_size, batch_timeout=wait, api_path=PATH, loop=SleepingLoop()
        )
        self.make = make
        self.threads = threads

    def setup(self, device: str) -> None:
        """Load the guard, once a worker."""
        # Ctrl-C reaches every process of a terminal; the server ends its workers itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_num_threads(self.threads)
        self.answering = self.make(device)

    def decode_request(self, request: Annotated[Question, Depends(receive)]) -> Question:
        """What the server has decoded already."""
        return request

    def batch(self, inputs: list[Question]) -> list[Question]:
        """As they are."""
        return inputs

    def predict(self, given: list[Question]) -> list[Answer | None]:
        """Answer a batch."""
        return self.answering(given)

    def unbatch(self, output: list[Answer | None]) -> list[Answer | None]:
        """One answer for each request."""
        return output

    def encode_response(self, output: Answer | None) -> Answer:
        """The answer; status 500 where what was computed is not finite."""
        if output is None:
            said = "the network or the detector returned a value that is not finite."
            # An exception would be the answer of the whole batch.
            return JSONResponse({"detail": said}, 500)  # type: ignore[return-value]
        return output


def server(
    api: GuardAPI, receiver: Receiver, accelerator: str, workers: int, most: int, seconds: float
) -> litserve.LitServer:
    """The server: ``/predict``, ``/health`` and ``/metrics``.

    Args:
        api: what the workers do.
        receiver: what is taken from a request.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        workers: processes, each with a guard of its own; one that dies is started again.
        most: requests at once.
        seconds: that each may take.
    """
    made = litserve.LitServer(
        api,
        accelerator=accelerator,
        devices=1,
        workers_per_device=workers,
        timeout=seconds,
        middlewares=[(Admission, {"most": most, "seconds": seconds})],
        restart_workers=True,
    )
    made.app.state.receiver = receiver

    made.app.add_api_route("/metrics", metrics)
    return made


def metrics() -> Response:
    """What was counted, for Prometheus."""
    return Response(counted(), media_type="text/plain; version=0.0.4")
