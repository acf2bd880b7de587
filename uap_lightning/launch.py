"""Entry points under Hydra: what the user can mend ends in one sentence."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from uap_lightning.config import find_conf, register_schemas
from uap_lightning.errors import UapError
from uap_lightning.progress import console


def launch(task: Callable[[DictConfig], object], config_name: str, *, resumes: bool = True) -> None:
    """Run an entry point under Hydra; what the user can mend ends in one sentence.

    With HYDRA_FULL_ERROR=1 the traceback is shown as well.

    Args:
        task: takes the composed config.
        config_name: the primary config, without its suffix.
        resumes: run again after an interruption, the command goes on from where it was.
    """
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    told: list[UapError] = []

    @functools.wraps(task)
    def job(cfg: DictConfig) -> object:
        try:
            return task(cfg)
        except UapError as error:
            if HydraConfig.get().mode is not RunMode.RUN or traceback_wanted:
                raise
            # Raised, Hydra would add a line of its own to the sentence.
            told.append(error)
            return None

    torch.set_float32_matmul_precision("high")
    register_schemas()
    entry = hydra.main(version_base="1.3", config_path=find_conf(), config_name=config_name)(job)
    try:
        with _hydra_raises():
            entry()
        if told:
            raise told[0]
    except (UapError, HydraException, OmegaConfBaseException) as error:
        if traceback_wanted:
            raise
        console.print(f"error: {_sentence(error)}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except OSError as error:
        # Hydra makes the folder and its log before the job begins.
        if traceback_wanted or error.filename is None:
            raise
        console.print(
            f"error: {error.filename} cannot be written ({error.strerror}): run the command in a "
            "folder you may write to, or set hydra.run.dir.",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        then = "the same command goes on from here" if resumes else "nothing was written"
        console.print(f"interrupted: {then}.", markup=False)
        sys.exit(130)


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Have Hydra raise what goes wrong instead of printing a report and exiting."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _sentence(error: Exception) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = [str(known) for known in error.options or []]
        near = get_close_matches(option, options, n=1)
        hint = f"; did you mean {group}={near[0]}?" if near else "."
        if options:
            return f"{group}={option} does not exist: choose one of {', '.join(options)}{hint}"
    if isinstance(error, UapError):
        return str(error)
    causes = [error, error.__cause__] if error.__cause__ else [error]
    lines = [line.strip() for cause in causes for line in str(cause).splitlines()]
    # Hydra adds lines on types and full keys, which say nothing to the user.
    noise = ("object_type", "reference_type", "full_key")
    kept = dict.fromkeys(line for line in lines if line and not line.startswith(noise))
    return f"{'; '.join(kept)} (see the keys there are with --cfg job)."
