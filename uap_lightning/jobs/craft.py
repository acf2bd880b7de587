"""Fill a bank of perturbations."""

import logging
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from uap_lightning.core.storage import write_json
from uap_lightning.jobs.loggers import build_loggers, log_bank
from uap_lightning.jobs.run import running
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.jobs.stages import find_bank, load_data_and_network

log = logging.getLogger(__name__)


def craft(composed: DictConfig) -> None:
    """Craft what the bank lacks and say where it is."""
    with running(composed, CraftConfig, is_whole) as run:
        cfg = run.config
        if run.finished:
            log.info("The bank is complete; overwrite=true checks it again.")
            return
        loggers = build_loggers(cfg, run, "craft")
        with run.stage("data"):
            data, network = load_data_and_network(cfg, needed=())
        write_json(run.folder / "split.json", data.split_lists)
        with run.stage("craft"):
            bank = find_bank(cfg, data, network)
        log_bank(loggers, bank)
        run.content["bank"] = bank.folder.name
        run.content["digests"] = {"bank": bank.digest}
        log.info(
            "The bank %s holds %d training and %d test perturbations",
            bank.folder,
            len(bank.train),
            len(bank.test),
        )


def is_whole(cfg: CraftConfig, content: Mapping[str, object]) -> bool:
    """Whether the bank of a finished run is where it should be, with all its perturbations."""
    given = cfg.bank.path
    folder = Path(cfg.paths.bank_dir) / str(content.get("bank")) if given is None else Path(given)
    return all(
        len(list(folder.glob(f"{part}-*.safetensors"))) >= count
        for part, count in (("train", cfg.bank.train), ("test", cfg.bank.test))
    )
