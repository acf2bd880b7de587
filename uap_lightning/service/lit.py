"""A guard on Lightning's own server, LitServe: batches, workers, a health check."""

import asyncio
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import litserve
import torch
from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse
from litserve.loops.simple_loops import BatchedLoop
from litserve.utils import WorkerSetupStatus

from uap_lightning.service.admission import PATH, Admission
from uap_lightning.service.answering import Answer, Answering, Question
from uap_lightning.service.counting import counted
from uap_lightning.service.receiving import Receiver

_NAP = 0.05  # seconds
_READY, _ERROR = WorkerSetupStatus.READY, WorkerSetupStatus.ERROR


async def receive(request: Request, logits: bool = False) -> Question:
    """The image in a request's body, decoded beside other requests."""
    receiver: Receiver = request.app.state.receiver
    body = await receiver.read(request.stream(), request.headers.get("content-length"))
    # Threads of its own: those of asyncio bring the answers in.
    decoded = asyncio.get_running_loop().run_in_executor(
        request.app.state.decoders, receiver.pixels, body
    )
    return Question(await decoded, logits)


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
        ahead = Ahead(first, request_queue)
        found: tuple[list[Any], list[Any]] = [], []
        # Once as a rule; a process that had to wait for its turn may find the time up.
        while ahead.first:
            found = super().get_batch_requests(lit_api, ahead, transport)
        return found


class Waiting(dict[str, Any]):
    """Requests that wait for their answers; those that have given up are forgotten.

    LitServe takes a request out when it is answered, and never where it was cancelled.

    Args:
        seconds: after which nobody waits any more.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self._since: dict[str, float] = {}

    def __setitem__(self, key: str, item: Any) -> None:
        """Take a request in, and let go of the oldest."""
        now = time.monotonic()
        while self._since:
            oldest = next(iter(self._since))
            if oldest in self and now - self._since[oldest] <= self.seconds:
                break
            self.pop(oldest, None)
            del self._since[oldest]
        self._since[key] = now
        super().__setitem__(key, item)


class GuardServer(litserve.LitServer):  # type: ignore[misc]
    """LitServe's server, which ends where a process dies that it would wait for."""

    died = ""
    ending = False

    def verify_worker_status(self) -> None:
        """Wait until a worker is ready.

        Raises:
            RuntimeError: none can be, because all have ended or one has failed.
        """
        while not any(status == _READY for status in self.workers_setup_status.values()):
            if any(status == _ERROR for status in self.workers_setup_status.values()):
                raise RuntimeError("it failed while it loaded")
            if not any(worker.is_alive() for worker in self.inference_workers):
                raise RuntimeError("it was ended while it loaded")
            time.sleep(0.05)

    def _start_server(self, *arguments: Any, **settings: Any) -> dict[int, Any]:
        started: dict[int, Any] = super()._start_server(*arguments, **settings)

        def watch() -> None:
            while all(process.is_alive() for process in started.values()):
                time.sleep(1.0)
            if not self.ending:
                self.died = "the process that listens has ended"
                self._shutdown_event.set()

        threading.Thread(target=watch, daemon=True).start()
        return started

    def _perform_graceful_shutdown(self, *arguments: Any, **settings: Any) -> None:
        self.ending = True
        # Its thread that watches workers may still ask for what has just been shut down.
        logging.getLogger("litserve.server").setLevel(logging.CRITICAL)
        super()._perform_graceful_shutdown(*arguments, **settings)


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
        # In less than a thousandth LitServe may not come to take a request before the time is up.
        wait = max(wait, 1e-3) if wait else 0.0
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
    made = GuardServer(
        api,
        accelerator=accelerator,
        devices=1,
        workers_per_device=workers,
        timeout=seconds,
        middlewares=[(Admission, {"most": most, "seconds": seconds})],
        restart_workers=True,
    )
    made.response_buffer = Waiting(2 * seconds)
    made.app.state.receiver = receiver
    made.app.state.decoders = ThreadPoolExecutor(os.cpu_count() or 1)
    made.app.add_api_route("/metrics", metrics, dependencies=[Depends(made.setup_auth())])
    return made


def metrics() -> Response:
    """What was counted, for Prometheus."""
    return Response(counted(), media_type="text/plain; version=0.0.4")
