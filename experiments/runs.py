"""The runs that a table needs: trainings, evaluations of what they trained, and their results."""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from uap_lightning.core.errors import UapError
from uap_lightning.jobs.config import typed
from uap_lightning.results.file import FILE, read_results

PAPER = ("network=caffenet", "network=vggf", "network=googlenet_bvlc")
NORMS = ("l2", "linf")

T = TypeVar("T")
# A few seconds a run: what the tests walk through.
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
    """

    networks: dict[str, tuple[str, ...]]
    common: tuple[str, ...]
    training: tuple[str, ...]
    folder: Path

    def craft(self, network: str, norm: str) -> Job:
        """The crafting of a bank of perturbations of a network and a norm."""
        overrides = (*self.common, *self.networks[network], f"norm={norm}")
        return Job("craft", overrides, self.folder / f"craft-{network}-{norm}")

    def train(self, network: str, norm: str) -> Job:
        """The training of a defence for a network against a norm."""
        overrides = (*self.common, *self.training, *self.networks[network], f"norm={norm}")
        return Job("train", overrides, self.folder / f"train-{network}-{norm}")

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
    return Plan(networks, tuple(arguments.overrides), (), folder)


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


def carry_out(jobs: Sequence[Job], arguments: argparse.Namespace) -> bool:
    """Run the jobs in order, or print them; finished ones return at once.

    Returns:
        whether there are results to draw.

    Raises:
        SystemExit: a run failed; it has said why.
    """
    if arguments.dry_run:
        print("\n".join(map(str, jobs)))
        return False
    for number, job in enumerate(jobs if not arguments.table_only else (), start=1):
        print(f"[{number}/{len(jobs)}] {job}", flush=True)
        # A job of its own: no state of one leaks into the next.
        done = subprocess.run([sys.executable, *job.command], check=False, env=dict(os.environ))
        if done.returncode:
            raise SystemExit(f"{job} ended with status {done.returncode}.")
    return True


def require_results(jobs: Iterable[Job]) -> None:
    """Refuse to draw anything as long as a run has no result.

    Raises:
        SystemExit: a result is missing or not ok; its command is named.
    """
    for job in jobs:
        path = job.folder / FILE
        try:
            status = read_results(path).status if path.is_file() else "missing"
        except UapError as error:
            raise SystemExit(f"error: {error}") from error
        if status != "ok":
            raise SystemExit(
                f"error: {path} is {status}: expected a finished result; run {job} first."
            )


def settings_of(job: Job, kind: type[T]) -> T:
    """The config of a finished job, as the dataclass of its command.

    Raises:
        SystemExit: another version of the command wrote it.
    """
    path = job.folder / FILE
    config = read_results(path).config
    try:
        return typed(cast(DictConfig, OmegaConf.merge(OmegaConf.structured(kind), config)), kind)
    except (OmegaConfBaseException, UapError) as error:
        raise SystemExit(
            f"error: the config in {path} is none of this version's uap_lightning.{job.verb} "
            f"({str(error).splitlines()[0]}): run it again with overwrite=true."
        ) from error
