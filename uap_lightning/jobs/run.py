"""One job from start to end: its folder, seed, loggers and ``results.json``."""

import logging
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import seed_everything

from uap_lightning.core.device import is_first
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import locked, make_folder, write_json
from uap_lightning.core.terminal import plain
from uap_lightning.core.version import git_commit, library_versions
from uap_lightning.jobs.config import typed
from uap_lightning.jobs.identity import decisive, first_difference
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.results.file import FILE, SCHEMA, RunResult, read_results

log = logging.getLogger(__name__)

Config = TypeVar("Config", bound=CraftConfig)

_EXPECTED_WARNINGS = (
    # Crops are read from one file: workers would only cost.
    ".*does not have many workers.*",
    # A resumed run finds its own checkpoints.
    ".*Checkpoint directory .* exists and is not empty.*",
    # What the CSV logger would remove has been renamed.
    ".*Previous log files in this directory will be deleted.*",
    # The target network stays in evaluation mode on purpose.
    ".*module\\(s\\) in eval mode at the start of training.*",
    # A small collection has fewer batches than log_every_n_steps.
    ".*smaller than the logging interval.*",
    # Lightning's own use of torch, which it will mend.
    ".*isinstance\\(treespec, LeafSpec\\).*",
)


class Run(Generic[Config]):
    """A job's folder and its ``results.json``, kept up to date while the job runs.

    Attributes:
        config: the job's, typed.
        folder: the output folder.
        finished: the folder already holds the result of this very config.
        content: what ``results.json`` holds.
    """

    def __init__(self, config: Config, composed: DictConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.finished = False
        self.content: dict[str, Any] = {
            "schema": SCHEMA,
            "run_id": uuid4().hex[:8],
            "status": "running",
            "reason": None,
            "rows": [],
            "seed": composed.seed,
            "seconds": {},
            "config": _resolved(composed),
            "versions": library_versions(),
            "commit": git_commit(),
            "digests": {},
        }

    @property
    def result(self) -> RunResult:
        """What ``results.json`` holds, with its types."""
        return RunResult(**self.content)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of the job; the seconds of an interrupted stage add up."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.content["seconds"]
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
            self.write()

    def write(self) -> None:
        """Bring ``results.json`` up to date; the first of several processes does so for all."""
        if is_first():
            write_json(self.folder / FILE, asdict(self.result))


@contextmanager
def running(
    composed: DictConfig,
    kind: type[Config],
    whole: Callable[[Config, Mapping[str, object]], bool] = lambda config, content: True,
) -> Iterator[Run[Config]]:
    """The frame around a job.

    Checks the config, takes the output folder for itself, seeds every generator, records how the
    job ends, closes the loggers and leaves the process as it was, so that the next job of a
    sweep starts clean. Of the processes that train together, the first holds the folder for all.

    Args:
        composed: the config as Hydra composed it.
        kind: its dataclass.
        whole: whether what a finished run made, by the content of its ``results.json``, is still
            there; where it is not, the run is not finished.

    Raises:
        UapError: the config is refused, or the folder is in use or holds a run with other
            settings.
    """
    if composed.paths.output_dir is None:
        raise UapError("paths.output_dir is null: expected a folder; leave it out for Hydra's.")
    folder = make_folder(Path(composed.paths.output_dir))
    lock = locked(folder / ".lock", wait=False) if is_first() else nullcontext(True)
    with lock as held, _process_restored():
        if not held:
            raise UapError(
                f"another process is at work in {folder}: wait for it, or give this run its own "
                "folder with name=NAME."
            )
        try:
            config = typed(composed, kind)
        except UapError as error:
            _record_refusal(folder, composed, error)
            raise
        run = Run(config, composed, folder)
        _take_up(run, config.overwrite, whole)
        if run.finished:
            yield run
            return
        seed_everything(config.seed, workers=True, verbose=False)
        exit_code = 1
        try:
            run.write()
            yield run
            run.content["status"] = "ok"
            exit_code = 0
        except Exception as error:
            run.content["status"] = "failed"
            run.content["reason"] = str(error) or type(error).__name__
            # A sweep goes on and ends with the sentences alone.
            log.error("%s", plain(run.content["reason"]), exc_info=not isinstance(error, UapError))
            raise
        finally:
            run.write()
            _finish_wandb(exit_code)


def _record_refusal(folder: Path, cfg: DictConfig, error: UapError) -> None:
    """Say in ``results.json`` why a config was refused, unless an earlier result stands there."""
    if (folder / FILE).exists() or not is_first():
        return
    refused = {"schema": SCHEMA, "status": "failed", "reason": str(error), "rows": []}
    name = {"name": str(OmegaConf.to_container(cfg).get("name"))}  # type: ignore[union-attr]
    write_json(folder / FILE, {**refused, "seconds": {}, "config": name})


def _take_up(
    run: Run[Config], overwrite: bool, whole: Callable[[Config, Mapping[str, object]], bool]
) -> None:
    """Continue what an earlier run of the same config left in the folder.

    Every process comes to the same; the first alone removes anything.
    """
    path = run.folder / FILE
    earlier = vars(read_results(path)) if path.exists() else None
    checkpoints = run.folder / "checkpoints"
    if earlier is None:
        return
    old, new = decisive(earlier.get("config")), decisive(run.content["config"])
    difference = first_difference(old, new)
    finished = earlier["status"] == "ok" and whole(run.config, earlier)
    if not difference and not overwrite:
        run.finished = finished
        kept: dict[str, Any] = {key: earlier[key] for key in ("run_id", "seconds") if earlier[key]}
        run.content = earlier if finished else {**run.content, **kept}
    elif overwrite or not (finished or checkpoints.exists()):
        # What an earlier run trained is not to be gone on from.
        for name in ("checkpoints", "defense", "csv") if is_first() else ():
            shutil.rmtree(run.folder / name, ignore_errors=True)
    else:
        raise UapError(
            f"{run.folder} holds a run with other settings ({difference}): give this one its own "
            "folder with name=NAME, or replace that one with overwrite=true."
        )


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config as JSON can hold it: infinity becomes a string."""
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    return {str(key): _json_safe(value) for key, value in content.items()}


def _json_safe(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_safe(item) for item in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return str(value)
    return value


@contextmanager
def _process_restored() -> Iterator[None]:
    """Undo what a job changes in its process: environment, warnings, torch's switches."""
    environment = dict(os.environ)
    deterministic = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    # Determinism does not need it: it only makes reads of uninitialised memory repeatable.
    memory.fill_uninitialized_memory = False
    lightning = logging.getLogger("pytorch_lightning")
    level = lightning.level
    threads = torch.get_num_threads()
    try:
        torch.backends.cudnn.deterministic = True
        with warnings.catch_warnings():
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message)
            lightning.setLevel(logging.WARNING)
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        torch.use_deterministic_algorithms(deterministic)
        memory.fill_uninitialized_memory = filled
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        lightning.setLevel(level)
        torch.set_num_threads(threads)


def _finish_wandb(exit_code: int) -> None:
    """Close W&B's run; the result is written by then, and a failure here takes nothing from it."""
    wandb = sys.modules.get("wandb")
    if wandb is None:
        return
    try:
        try:
            if wandb.run is not None:
                wandb.finish(exit_code=exit_code)
        finally:
            # What it read from the environment, such as the mode, is not the next job's.
            wandb.teardown()
    except Exception as error:  # W&B raises what its service and the network do
        log.warning("Weights & Biases could not finish its run (%s).", error)
