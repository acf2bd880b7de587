"""What a job sends to its loggers: CSV always, TensorBoard and Weights & Biases when asked for.

Metrics and images go through Lightning; W&B also gets the config, the bank, the defence folder
and a table of the result's rows, which its workspace shows as one table for a sweep.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from uap_lightning.core.device import is_first
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.config import build
from uap_lightning.jobs.launch import SWEEP
from uap_lightning.jobs.run import Run
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.perturbations.bank import Bank
from uap_lightning.results.row import Row

LONGEST = 128  # characters that W&B takes as the name of an artifact


def build_loggers(cfg: CraftConfig, run: Run[Any], stage: str) -> list[Logger]:
    """The loggers of the config, and one that writes ``csv/metrics.csv`` in any case.

    A W&B run is named as the job, grouped by the sweep, and of the job type ``stage``; a job that
    goes on after an interruption goes on in the run it had.

    Raises:
        UapError: W&B is to be reached and there is no key, or it refuses.
    """
    if is_first():
        _keep_curves(run.folder / "csv" / "metrics.csv")
    loggers = []
    for node in cfg.logger.values():
        own: dict[str, object] = {}
        if str(node.get("_target_")).endswith("WandbLogger"):
            own = {"id": run.content["run_id"], "group": sweep_name(), "job_type": stage}
        loggers.append(build(node, Logger, **own))  # type: ignore[type-abstract]
    if not any(isinstance(logger, CSVLogger) for logger in loggers):
        loggers.append(CSVLogger(run.folder, name="csv", version=""))
    for logger in _wandb(loggers):
        _begin(logger, run.content["config"])
    return loggers


def sweep_name() -> str | None:
    """What the sweep is called that this job belongs to; None outside of one."""
    if not (HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN):
        return None
    return os.environ.get(SWEEP)


def log_bank(loggers: Sequence[Logger], bank: Bank) -> None:
    """Log the curves of crafting, a step for each perturbation, and the bank as an artifact."""
    for number, record in enumerate(bank.records):
        values = {
            "craft/fooling_ratio": record.fooling_ratio,
            "craft/fooling_ratio_unseen": record.fooling_ratio_unseen,
            "craft/cosine": record.cosine,
            "craft/passes": record.passes,
            "craft/seconds": record.seconds,
        }
        known = {name: value for name, value in values.items() if value is not None}
        for logger in loggers:
            logger.log_metrics(known, step=number)
    for logger in loggers:
        logger.save()
    files = [bank.folder / "bank.json", *sorted(bank.folder.glob("*.safetensors"))]
    _log_artifact(loggers, bank.folder.name, "bank", files)


def log_rows(loggers: Sequence[Logger], rows: Sequence[Row]) -> None:
    """Log the result's rows as a W&B table; it shows those of a sweep's runs as one."""
    columns = [field.name for field in fields(Row) if not field.name.startswith("ci95")]
    for logger in _wandb(loggers):
        data = [[getattr(row, key) for key in columns] for row in rows]
        logger.log_table("test/rows", columns, data)


def log_defense(loggers: Sequence[Logger], name: str, folder: Path) -> None:
    """Log a defence folder as an artifact."""
    _log_artifact(loggers, f"{name}-defense", "defense", sorted(folder.iterdir()))


def _wandb(loggers: Iterable[Logger]) -> list[WandbLogger]:
    """The W&B loggers of the one process that logs."""
    return [logger for logger in loggers if isinstance(logger, WandbLogger) and is_first()]


def _begin(logger: WandbLogger, config: dict[str, object]) -> None:
    import wandb  # seconds to import, and only needed here

    try:
        logger.experiment.config.update(config, allow_val_change=True)
    except wandb.Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UapError(
            f"logger.wandb cannot reach W&B ({reason}): log in with wandb login, or go off line "
            "with logger.wandb.offline=true and send the run later with wandb sync."
        ) from error


def _log_artifact(loggers: Sequence[Logger], name: str, kind: str, files: Sequence[Path]) -> None:
    for logger in _wandb(loggers):
        import wandb  # seconds to import, and only needed here

        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name)[-LONGEST:], kind)
        for file in files:
            artifact.add_file(str(file), name=file.name)
        logger.experiment.log_artifact(artifact)


def _keep_curves(path: Path) -> None:
    """Give what an interrupted run wrote a number: Lightning's CSV logger would remove it."""
    if path.exists():
        earlier = len(list(path.parent.glob(f"{path.stem}-*.csv")))
        path.rename(path.with_stem(f"{path.stem}-{earlier + 1}"))
