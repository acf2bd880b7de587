"""Test a defence folder under a condition of the command line's."""

import logging
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, write_json
from uap_lightning.guard.defense_folder import RECORD, Defense, load_defense
from uap_lightning.jobs.loggers import build_loggers, log_bank, log_rows
from uap_lightning.jobs.run import Run, running
from uap_lightning.jobs.schema import EvaluateConfig
from uap_lightning.jobs.stages import (
    Condition,
    build_trainer,
    find_bank,
    load_data_and_network,
    load_network,
    metrics_of,
    test,
)
from uap_lightning.jobs.streaming import check_whitener
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.bank import Bank, identities
from uap_lightning.results.rows import Result
from uap_lightning.results.screen import show
from uap_lightning.training.module import RectifierModule

log = logging.getLogger(__name__)


def evaluate(composed: DictConfig) -> float | None:
    """Test a trained defence and return the defense rate of the first protocol, in percent."""
    with running(composed, EvaluateConfig) as run:
        cfg = run.config
        if not run.finished:
            defense = load_defense(cfg.defense)
            check_size(defense, int(cfg.data["crop"]))
            tested = check_whitener(defense.whitener) if cfg.stream else None
            loggers = build_loggers(cfg, run, "evaluate")
            with run.stage("data"):
                data, network = load_data_and_network(cfg, needed=("test",))
            write_json(run.folder / "split.json", data.split_lists)
            check_split(defense, data.tested_on)
            with run.stage("craft"):
                bank = find_bank(cfg, data, perturbation_network(cfg, network))
            check_perturbations(defense, bank)
            condition: Condition = dict(defense.condition)  # type: ignore[arg-type]
            module = RectifierModule(network, defense.rectifier, defense.detector, condition)
            log_bank(loggers, bank)
            metrics = metrics_of(cfg)
            trainer = build_trainer(cfg, loggers, [metrics])
            with run.stage("test"):
                rows = test(cfg, trainer, module, metrics, data, bank, condition, tested)
            run.content["rows"] = rows
            log_rows(loggers, rows)
            run.content["digests"] = {"bank": bank.digest, "defense": defense.digest}
        else:
            check_same(run, Path(cfg.defense))
            log.info("%s is finished already; overwrite=true runs it again.", run.folder)
    show([Result(run.folder.name, run.folder, run.result)])
    rows = run.result.rows
    return rows[0].defense_rate if rows else None


def perturbation_network(cfg: EvaluateConfig, network: TargetNetwork) -> TargetNetwork:
    """The network that the test perturbations are made on: the one under test, or another."""
    if cfg.perturbation_network is None:
        return network
    try:
        return load_network(cfg.perturbation_network, cfg.accelerator)
    except UapError as error:
        # The sentence speaks of the keys of the network under test.
        raise UapError(f"perturbation_network: {error}") from error


def check_same(run: Run[EvaluateConfig], folder: Path) -> None:
    """Refuse to show a finished run's numbers for a defence that has been replaced since.

    Raises:
        UapError: the folder holds another defence than the run tested, or none.
    """
    if run.content["digests"].get("defense") != digest_of_file(folder / RECORD):
        raise UapError(
            f"{run.folder} holds the result of another defence than {folder} holds now: run it "
            "again with overwrite=true, or give this run its own folder with name=NAME."
        )


def check_size(defense: Defense, crop: int) -> None:
    """Refuse images of another size than the detector was fitted on.

    Raises:
        UapError: the sizes differ.
    """
    size = defense.condition.get("size")
    if size != crop:
        raise UapError(
            f"the defence was trained on images of side {size} and data.crop is {crop}: set "
            f"data.crop={size}."
        )


def check_split(defense: Defense, tested_on: Mapping[str, str]) -> None:
    """Refuse to test on photographs that the defence was trained on.

    Args:
        defense: with the identities of what it was trained on.
        tested_on: names of the test photographs by their identities.

    Raises:
        UapError: the two overlap.
    """
    both = sorted(name for key, name in tested_on.items() if key in defense.trained_on)
    if both:
        raise UapError(
            f"the defence was trained on {len(both)} of the {len(tested_on)} test photographs "
            f"(such as {both[0]}): set seed={defense.condition.get('seed')} and the data's "
            "settings as they were in training, or test on others."
        )


def check_perturbations(defense: Defense, bank: Bank) -> None:
    """Refuse to test on perturbations that the defence was trained on.

    Raises:
        UapError: the bank's test part holds some of them.
    """
    both = sum(identity in defense.trained_on for identity in identities(bank.test))
    if both:
        raise UapError(
            f"the defence was trained on {both} of the {len(bank.test)} test perturbations of "
            f"{bank.folder}: give a bank (bank.path) with others in its test part."
        )
