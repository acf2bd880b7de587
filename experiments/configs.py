"""Configs of the package's commands: composed without running them, or those of finished jobs."""

from collections.abc import Sequence
from typing import TypeVar, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.runs import Job
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.config import find_conf, register_schemas, typed
from uap_lightning.results.file import FILE, read_results

T = TypeVar("T")


def composed(verb: str, overrides: Sequence[str], kind: type[T]) -> T:
    """The config of a command without running it.

    Raises:
        UapError: a value is refused.
    """
    register_schemas()
    with initialize_config_dir(find_conf(), version_base="1.3"):
        try:
            # A folder is part of a config, and not made by composing.
            return typed(compose(verb, [*overrides, "paths.output_dir=outputs"]), kind)
        except (HydraException, OmegaConfBaseException) as error:
            said = " ".join(str(error).split())
            raise UapError(f"{' '.join(overrides)} is no config of {verb} ({said}).") from error


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
