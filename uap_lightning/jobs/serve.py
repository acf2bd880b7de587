"""Answer images over HTTP through a trained defence.

``POST /predict`` takes one image, ``GET /health`` says whether all workers are ready, and
``GET /metrics`` counts for Prometheus. The server is LitServe; each worker is a process with the
classifier and the defence. Workers that are given a ``store`` share what they find.
"""

import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from uap_lightning.core.device import computes_bf16, pick_device
from uap_lightning.core.errors import UapError
from uap_lightning.guard.guard import Guard
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.jobs.classify import read_names, short_side
from uap_lightning.jobs.config import build, typed
from uap_lightning.jobs.groups import Node
from uap_lightning.jobs.schema import ServeConfig
from uap_lightning.streams.store import PatternStore

if TYPE_CHECKING:
    from uap_lightning.service.answering import Answering

log = logging.getLogger(__name__)

_COUNTS = "PROMETHEUS_MULTIPROC_DIR"


def serve(composed: DictConfig) -> None:
    """Serve until interrupted."""
    cfg = typed(composed, ServeConfig)
    check_port(cfg.host, cfg.port)
    device = pick_device(cfg.accelerator)
    if cfg.bf16 and not computes_bf16(device):
        log.warning(
            "bf16 is true and this %s has no instructions for it: the rectifier stays in float32.",
            device.type,
        )
    # Loaded here once, so that what does not fit is said before a worker begins.
    guard = Guard.load(cfg.defense, build(cfg.network), bf16=cfg.bf16)
    remembering(guard, cfg.store)
    short, names = short_side(guard, cfg.resize), read_names(cfg.class_names, guard)
    size = guard.defense.size
    with counting_folder():
        try:
            from uap_lightning.service.lit import GuardAPI, server
            from uap_lightning.service.receiving import Receiver
        except ImportError as error:
            raise UapError(
                "serve needs LitServe and prometheus-client, of which one is not installed "
                f"({error}): pip install 'uap-lightning[serve]'."
            ) from error
        make = partial(answering, cfg.defense, cfg.network, cfg.store, names, cfg.bf16)
        threads = max(1, (os.cpu_count() or 1) // cfg.workers)
        api = GuardAPI(make, cfg.batch_size, cfg.wait, threads)
        receiver = Receiver(size, short, cfg.limits.bytes, cfg.limits.pixels)
        limits = (cfg.limits.waiting, cfg.limits.seconds)
        made = server(api, receiver, device.type, cfg.workers, *limits)
        log.info(
            "Serving on http://%s:%d: POST /predict, GET /health, GET /metrics; Ctrl-C ends it",
            f"[{cfg.host}]" if ":" in cfg.host else cfg.host,
            cfg.port,
        )
        end_by_signals()
        try:
            made.run(
                cfg.host,
                cfg.port,
                num_api_servers=1,
                log_level="warning",
                generate_client_file=False,
            )
        except RuntimeError as error:
            raise UapError(f"a worker does not start ({error}): see what it said above.") from error
        if made.died:
            raise UapError(f"{made.died}: see what it said above, and start the service again.")


def answering(
    folder: str, network: Node, store: str | None, names: list[str], bf16: bool, device: str
) -> "Answering":
    """What a worker answers with.

    Raises:
        UapError: defence, network and store do not fit each other.
    """
    from uap_lightning.service.answering import Answering

    guard = Guard.load(folder, build(network), bf16=bf16).to(device)
    return Answering(remembering(guard, store), names)


def remembering(guard: Guard, store: str | None) -> Guard | StreamGuard:
    """The guard, with memory where there is a store.

    Raises:
        UapError: the defence has no whitener, or the store cannot be used.
    """
    if store is None:
        return guard
    return StreamGuard(guard, store=PatternStore(store, guard.defense.size))


def check_port(host: str, port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        UapError: another program has it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as error:
        raise UapError(
            f"port {port} of {host} cannot be listened on ({error.strerror}): give another one, as "
            "port=8001."
        ) from error


def end_by_signals() -> None:
    """Have this process end by SIGTERM as by Ctrl-C; those it forks end on their own."""
    main = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == main:
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


@contextmanager
def counting_folder() -> Iterator[None]:
    """Have the processes of a service count into one folder, which is removed at the end."""
    folder = tempfile.mkdtemp(prefix="uap-serve-")
    os.environ[_COUNTS] = folder
    try:
        yield
    finally:
        del os.environ[_COUNTS]
        shutil.rmtree(folder, ignore_errors=True)
