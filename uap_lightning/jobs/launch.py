"""Entry points under Hydra: what the user can mend ends in one sentence."""

import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of
from uap_lightning.core.terminal import console, fail
from uap_lightning.jobs.config import find_conf, register_schemas

SWEEP = "UAP_SWEEP"  # environment variable: what the sweep is called that a job belongs to


def launch(task: Callable[[DictConfig], object], config_name: str, *, resumes: bool = True) -> None:
    """Run an entry point under Hydra; what the user can mend ends in one sentence.

    A sweep goes on when a job fails; it ends with a list of those that did and exit code 1.
    With HYDRA_FULL_ERROR=1 the traceback is shown as well.

    Args:
        task: takes the composed config.
        config_name: the primary config, without its suffix.
        resumes: run again after an interruption, the command goes on from where it was.
    """
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        for word in sys.argv[1:]:
            if word.startswith("="):
                raise UapError(f"{word} has no key: expected KEY=VALUE.")
        torch.set_float32_matmul_precision("high")
        # A full disk is told in a sentence; that the log cannot be written to it says no more.
        logging.raiseExceptions = False
        register_schemas()
        entry = hydra.main(version_base="1.3", config_path=find_conf(), config_name=config_name)
        with (
            _environment({"HYDRA_FULL_ERROR": "1", SWEEP: _sweep_name(sys.argv[1:])}),
            _failures_gathered() as failed,
        ):
            try:
                entry(task)()
            except (OSError, ValueError) as error:
                if "Config group override must be" in str(error):
                    raise UapError(_number_for_group(sys.argv[1:])) from error
                # Not the job's own, which is among the failed: Hydra makes the folder before it,
                # and logging wraps what it meets when it opens the file in it.
                met = error if isinstance(error, OSError) else error.__cause__
                if traceback_wanted or not isinstance(met, OSError) or met.filename is None:
                    raise
                raise UapError(
                    f"{met.filename} cannot be written ({met.strerror}): run the command in a "
                    "folder you may write to, or set hydra.run.dir."
                ) from error
        _tell(failed)
    except (UapError, HydraException, OmegaConfBaseException) as error:
        if traceback_wanted:
            raise
        fail(_sentence(error))
    except (AssertionError, AttributeError) as error:
        # OmegaConf's own, where an override goes below a node that is null.
        theirs = ("Unexpected type for root", "full_key: ")
        if traceback_wanted or not any(part in str(error) for part in theirs):
            raise
        fail(
            "a key is set below one that is null, such as rectifier.training of a filter that is "
            "not trained: leave it out, or choose another option of its group."
        )
    except OSError as error:
        # The job's own files say more; this is where what it prints goes to.
        if traceback_wanted or error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EPIPE):
            raise
        fail(f"the output cannot be written ({error.strerror}): free some space, or send it on.")
    except KeyboardInterrupt:
        then = "the same command goes on from here" if resumes else "nothing was written"
        console.print(f"interrupted: {then}.", markup=False)
        sys.exit(130)


def _number_for_group(words: list[str]) -> str:
    """Hydra takes only words for options of a group, and does not say which one is none."""
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    for override in OverridesParser.create().parse_overrides(overrides):
        folder = Path(find_conf(), override.key_or_group)
        options = sorted(path.stem for path in folder.glob("*.yaml"))
        if options and isinstance(override.value(), int | float | dict):
            said = override.input_line
            return f"{said} does not exist: choose one of {', '.join(options)}."
    return "a group of settings is given a number: expected the name of one of its options."


def _sweep_name(words: list[str]) -> str:
    """What is swept over, and a digest of all overrides: the same command fills the same sweep."""
    overrides = sorted(w for w in words if "=" in w and not w.startswith("hydra"))
    swept = [w for w in overrides if "," in re.sub(r"\[.*?\]", "", w)]
    return f"{' '.join(swept or overrides)[:110]} {digest_of(overrides)[:8]}"


def _tell(failed: list[JobReturn]) -> None:
    """Raise the error of a single job, or list a sweep's failed jobs and exit."""
    for job in failed:
        assert job.hydra_cfg is not None
        if job.hydra_cfg.hydra.mode is not RunMode.MULTIRUN:
            raise job._return_value
    if failed:
        console.print(f"error: {len(failed)} of the sweep's jobs failed:", style="red")
        for job in failed:
            assert job.hydra_cfg is not None
            folder = Path(job.hydra_cfg.hydra.runtime.output_dir)
            error = job._return_value
            reason = str(error) or type(error).__name__
            said = f"  {folder.name}: {reason}"
            console.print(said, style="red", markup=False, soft_wrap=True)
        sys.exit(1)


@contextmanager
def _failures_gathered() -> Iterator[list[JobReturn]]:
    """Gather the jobs that fail; Hydra would raise the first one's error and drop the others."""
    failed: list[JobReturn] = []
    hydras: Any = JobReturn.return_value

    def value(job: JobReturn) -> object:
        if job.status is JobStatus.FAILED:
            failed.append(job)
            return None
        return hydras.__get__(job)

    JobReturn.return_value = property(value, hydras.fset)  # type: ignore[assignment,method-assign]
    try:
        yield failed
    finally:
        JobReturn.return_value = hydras  # type: ignore[method-assign]


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables: HYDRA_FULL_ERROR has Hydra raise what goes wrong."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _sentence(error: Exception) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        extra = option.partition("_")[0]
        if group == "hydra/launcher" and extra in ("joblib", "submitit"):
            return f"the launcher {option} is not installed: install uap-lightning[{extra}]."
        options = [str(known) for known in error.options or []]
        near = get_close_matches(option, options, n=1)
        hint = f"; did you mean {group}={near[0]}?" if near else "."
        if options:
            return f"{group}={option} does not exist: choose one of {', '.join(options)}{hint}"
    if isinstance(error, UapError):
        return str(error)
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return (
            f"{error.override} cannot be read as KEY=VALUE: a value with other characters than "
            f"letters, digits and -_./:% stands in quotes within the shell's own, as in "
            f"\"{key}='{quoted}'\"."
        )
    causes = [error, error.__cause__] if error.__cause__ else [error]
    lines = [line.strip() for cause in causes for line in str(cause).splitlines()]
    # Hydra adds lines on types, which say nothing to the user.
    noise = ("object_type", "reference_type")
    kept = dict.fromkeys(line for line in lines if line and not line.startswith(noise))
    return f"{'; '.join(kept)} (see the keys there are with --cfg job)."
