"""The runs that a table needs: trainings, evaluations of what they trained, and their results."""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, write_atomically
from uap_lightning.guard.defense_folder import RECORD
from uap_lightning.results.file import FILE, read_results

PAPER = ("network=caffenet", "network=vggf", "network=googlenet_bvlc")
NORMS = ("l2", "linf")

# Only trainings have keys of these groups.
TRAINING = ("rectifier", "detector")
COMMAND = "command.txt"  # in a run's folder: the command that finished it
UNFINISHED = os.EX_TEMPFAIL  # 75: the time is up, and the same command goes on
GRACE = 30.0  # seconds that a run has to stop by itself

SMOKE = (
    "data=generated",
    "bank.train=2",
    "bank.test=1",
    "bank.extended=3",
    "bank.min_fooling_ratio=0",
    "attack.steps=3",
)
SMOKE_TRAINING = ("rectifier.training.steps=3", "detector.max_images=16")


@dataclass(frozen=True)
class Job:
    """A command of the package and the folder it writes to.

    Attributes:
        verb: craft, train or evaluate.
        overrides: of its config.
        folder: its output folder.
    """

    verb: str
    overrides: tuple[str, ...]
    folder: Path

    @property
    def command(self) -> list[str]:
        """The command, without the interpreter."""
        return [
            "-m",
            f"uap_lightning.{self.verb}",
            *self.overrides,
            f"hydra.run.dir={self.folder}",
        ]

    def __str__(self) -> str:
        return shlex.join(["python", *self.command])


@dataclass(frozen=True)
class Plan:
    """Which networks, under which settings.

    Attributes:
        networks: overrides that choose each network, by its label.
        common: overrides of every run, such as ``experiment=sample``.
        training: overrides of trainings alone.
        folder: where the runs are written.
        suffix: of the folders of trainings, where there are several kinds.
    """

    networks: dict[str, tuple[str, ...]]
    common: tuple[str, ...]
    training: tuple[str, ...]
    folder: Path
    suffix: str = ""

    def kind(self, name: str, training: Sequence[str]) -> "Plan":
        """The same plan with one kind of training, whose folders end in ``name``."""
        return replace(self, training=(*self.training, *training), suffix=f"-{name}")

    def craft(self, network: str, norm: str) -> Job:
        """The crafting of a bank of perturbations of a network and a norm."""
        overrides = (*self.common, *self.networks[network], f"norm={norm}")
        return Job("craft", overrides, self.folder / f"craft-{network}-{norm}")

    def train(self, network: str, norm: str) -> Job:
        """The training of a defence for a network against a norm."""
        overrides = (*self.common, *self.training, *self.networks[network], f"norm={norm}")
        return Job("train", overrides, self.folder / f"train-{network}-{norm}{self.suffix}")

    def evaluate(self, trained: Job, network: str, norm: str) -> Job:
        """The test of a trained defence on a network, under perturbations made on it."""
        overrides = (
            *self.common,
            *self.networks[network],
            f"norm={norm}",
            f"defense={trained.folder / 'defense'}",
        )
        name = f"{trained.folder.name}-test-{network}-{norm}"
        return Job("evaluate", overrides, self.folder / name)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that every table has."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument(
        "--network",
        action="append",
        help="overrides that choose a network, as 'network=vggf network.weights=FILE'; given once "
        "for each; the paper's three without",
    )
    result.add_argument("--output", type=Path, help="folder of the runs and of what is drawn")
    result.add_argument("--dry-run", action="store_true", help="print the commands and end")
    result.add_argument("--smoke", action="store_true", help="the tiny network, in seconds")
    result.add_argument("--table-only", action="store_true", help="run nothing, read what is there")
    result.add_argument(
        "--minutes",
        type=float,
        help="stop after so many minutes with exit status 75; the same command goes on",
    )
    result.add_argument("overrides", nargs="*", help="of every run, as experiment=sample")
    return result


def plan_of(arguments: argparse.Namespace, output: str) -> Plan:
    """The plan that the arguments describe."""
    folder = arguments.output or Path(output)
    if arguments.smoke:
        networks = {"tiny": ("network=tiny",), "twin": ("network=tiny", "network.name=twin")}
        return Plan(networks, SMOKE, SMOKE_TRAINING, folder)
    chosen = [tuple(shlex.split(text)) for text in arguments.network or PAPER]
    labels = [label_of(network) for network in chosen]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise SystemExit(
            f"error: two networks are called {twice[0]}: give one of them network.name=NAME."
        )
    networks = dict(zip(labels, chosen, strict=True))
    training = tuple(word for word in arguments.overrides if word.startswith(TRAINING))
    common = tuple(word for word in arguments.overrides if word not in training)
    return Plan(networks, common, training, folder)


def label_of(network: Sequence[str]) -> str:
    """What a network is called in folders: its name, its model or its option."""
    values = dict(override.split("=", 1) for override in network if "=" in override)
    for key in ("network.name", "network.model", "network"):
        if key in values and "network" in values:
            return re.sub(r"[^\w.-]", "-", values[key])
    raise SystemExit(
        f"error: --network is {' '.join(network)!r}: expected overrides that choose a network, "
        "such as 'network=vggf network.weights=FILE'."
    )


def carry_out(
    jobs: Sequence[Job], arguments: argparse.Namespace, *, may_fail: bool = False
) -> bool:
    """Run the jobs in order, or print them; finished ones are passed over.

    Args:
        jobs: to run.
        arguments: of :func:`parser`.
        may_fail: a run that ends by saying why it failed counts as finished.

    Returns:
        whether there are results to draw.

    Raises:
        SystemExit: a run failed and has said why, or, with the status ``UNFINISHED``, the time is
            up.
    """
    given = arguments.minutes
    if given is not None and "overwrite=true" in arguments.overrides:
        raise SystemExit(
            "error: overwrite=true would begin anew in each piece: leave it out, and remove the "
            "folders of the runs that are to be made again."
        )
    deadline = None if given is None else time.monotonic() + 60 * given
    if arguments.dry_run:
        print("\n".join(map(str, jobs)))
        return False
    for number, job in enumerate(jobs if not arguments.table_only else (), start=1):
        if is_finished(job, may_fail=may_fail):
            continue
        print(f"[{number}/{len(jobs)}] {job}", flush=True)
        left = None if deadline is None else deadline - time.monotonic()
        before = _written(job)
        status = launch(job, left)
        if status is None:
            done = sum(is_finished(job, may_fail=may_fail) for job in jobs)
            said = f"{done} of {len(jobs)} runs are done, {job.folder.name} is next"
            print(f"{said}: the same command goes on from here.", flush=True)
            raise SystemExit(UNFINISHED)
        # A result that was there before is another run's, whose folder this one was refused.
        told = may_fail and _written(job) != before
        if status and not (told and read_results(job.folder / FILE).status == "failed"):
            raise SystemExit(f"{job} ended with status {status}.")
        write_atomically(job.folder / COMMAND, f"{job}\n".encode())
    return True


def _written(job: Job) -> int | None:
    """When the job's result was written; None where there is none."""
    path = job.folder / FILE
    return path.stat().st_mtime_ns if path.is_file() else None


def launch(job: Job, seconds: float | None) -> int | None:
    """Run a job in a process of its own: no state of one leaks into the next.

    Args:
        job: to run.
        seconds: that it has; it is interrupted then, and killed if it goes on.

    Returns:
        its exit status; None where it was stopped.
    """
    if seconds is not None and seconds <= 0:
        return None
    process = subprocess.Popen(
        [sys.executable, *job.command],
        # A shell has what it starts in the background ignore interrupts, and so would the job.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(GRACE) and None
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def is_finished(job: Job, *, may_fail: bool = False) -> bool:
    """Whether this very command has finished and its defence is the one that is there now.

    With ``may_fail`` one that said why it failed has finished as well.
    """
    try:
        result = read_results(job.folder / FILE)
        if (job.folder / COMMAND).read_text(encoding="utf-8") != f"{job}\n":
            return False
        if may_fail and result.status == "failed":
            return True
        defense = Path(result.config.get("defense") or job.folder / "defense")
        known = result.digests.get("defense")
        same = known is None or known == digest_of_file(defense / RECORD)
    except (UapError, OSError):
        return False
    return result.status == "ok" and same


def require_results(jobs: Iterable[Job], *, may_fail: bool = False) -> None:
    """Refuse to draw anything as long as a run has no result, be it that it failed.

    Raises:
        SystemExit: a result is missing or not ok; its command is named.
    """
    for job in jobs:
        path = job.folder / FILE
        try:
            status = read_results(path).status if path.is_file() else "missing"
        except UapError as error:
            raise SystemExit(f"error: {error}") from error
        if status not in ("ok", *(["failed"] if may_fail else [])):
            raise SystemExit(
                f"error: {path} is {status}: expected a finished result; run {job} first."
            )
