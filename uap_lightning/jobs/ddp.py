"""Training by several processes: the others are started early, so that they craft as well."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGKILL

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning import Trainer
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed


@contextmanager
def ranks(trainer: Trainer) -> Iterator[None]:
    """Run the other processes of a Trainer that trains by several (``trainer=ddp``).

    Lightning would start them when training begins. Started here, they walk the whole way beside
    this one: each takes perturbations to craft that no other is at, and meets it in training.
    They are ended with this process's work, so that the next job of a sweep starts its own.
    """
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        yield
        return
    with _arguments_of_this_job():
        launcher.launch(lambda: None)
    try:
        yield
    except BaseException:
        launcher.kill(SIGKILL)
        raise
    finally:
        for process in launcher.procs:
            process.wait()
        if distributed.is_initialized():
            distributed.destroy_process_group()


@contextmanager
def _arguments_of_this_job() -> Iterator[None]:
    """In a sweep, have Lightning start the others with this job's overrides, not the sweep's."""
    given = sys.argv
    if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        swept = get_args_parser().parse_args(given[1:]).overrides
        options = [w for w in given[1:] if w not in (*swept, "-m", "--multirun")]
        overrides = HydraConfig.get().overrides
        own = [*(w for w in swept if "hydra.searchpath" in w), *overrides.task, "hydra.mode=RUN"]
        sys.argv = [given[0], *options, *own]
    try:
        yield
    finally:
        sys.argv = given
