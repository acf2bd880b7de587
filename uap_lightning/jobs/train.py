"""The whole way: ``python -m uap_lightning.train network=googlenet norm=linf``.

Craft the bank where it is missing, extend it, train the rectifier, fit the detector, test every
protocol, write the defence folder and ``results.json``.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning import Trainer

from uap_lightning.core.device import is_first
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, write_atomically, write_json
from uap_lightning.data import PhotographDataModule
from uap_lightning.guard.defense_folder import CARD, save_defense
from uap_lightning.jobs.config import arguments_of, build
from uap_lightning.jobs.ddp import ranks
from uap_lightning.jobs.loggers import build_loggers, log_bank, log_defense, log_rows
from uap_lightning.jobs.run import Run, running
from uap_lightning.jobs.stages import (
    Condition,
    ball_of,
    build_trainer,
    find_bank,
    interruptible,
    load_data_and_network,
    test,
)
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.bank import Bank
from uap_lightning.perturbations.sampling import PerturbationSampler
from uap_lightning.perturbations.synthetic import extend
from uap_lightning.results.card import card
from uap_lightning.results.screen import show
from uap_lightning.training.module import RectifierModule, read_condition

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float | None:
    """Walk the whole way and return the defense rate of the first protocol, in percent."""
    with running(cfg) as run:
        if not run.finished:
            if cfg.ckpt_path is not None:
                read_condition(cfg.ckpt_path)
            loggers = build_loggers(cfg, run, "train")
            with run.stage("data"):
                data, network = load_data_and_network(cfg)
            if is_first():
                write_json(run.folder / "split.json", data.split_lists)
            trainer = build_trainer(cfg, loggers, max_steps=count_steps(cfg, data))
            with ranks(trainer):
                with run.stage("craft"):
                    bank = find_bank(cfg, data, network)
                log_bank(loggers, bank)
                condition = training_condition(cfg, data, network, bank)
                module = build_module(cfg, network, condition)
                resume = find_checkpoint(cfg, run, condition)
                with run.stage("train"):
                    fit(cfg, trainer, module, data, bank, resume)
                with run.stage("test"):
                    run.content["rows"] = test(cfg, trainer, module, data, bank, condition)
            if not is_first():
                return None
            defense = write_defense(cfg, run, module, condition, data.trained_on)
            run.content["digests"] = {"bank": bank.digest, "defense": digest_of_file(defense)}
            described = card({**condition, "classes": network.classes(data.crop)}, run.content)
            write_atomically(defense.parent / CARD, described.encode())
            log_rows(loggers, run.content["rows"])
            log_defense(loggers, cfg.name, defense.parent)
        else:
            log.info("%s is finished already; overwrite=true runs it again.", run.folder)
    show([run.content])
    rows = run.content["rows"]
    return rows[0]["defense_rate"] if rows else None


def count_steps(cfg: DictConfig, data: PhotographDataModule) -> int:
    """Training steps: those of the config, or as many as its epochs have."""
    epoch = math.ceil(len(data.train) / cfg.rectifier.batch_size)
    return int(cfg.rectifier.steps) if cfg.rectifier.steps > 0 else epoch * cfg.rectifier.epochs


def training_condition(
    cfg: DictConfig, data: PhotographDataModule, network: TargetNetwork, bank: Bank
) -> Condition:
    """What the rectifier is trained on, as strings and numbers."""
    return {
        "train_network": network.name,
        "train_norm": cfg.norm.name,
        "eps": ball_of(cfg).eps,
        "size": cfg.data.crop,
        "data": cfg.data.name,
        "test_split": data.test_split,
        "bank": bank.identity,
        "rectifier": cfg.rectifier.name,
        "detector": cfg.detector.name,
        "seed": cfg.seed,
    }


def build_module(cfg: DictConfig, network: TargetNetwork, condition: Condition) -> RectifierModule:
    """The LightningModule of the config."""
    return RectifierModule(
        network,
        build(cfg.rectifier.model),
        build(cfg.detector.model),
        cross_entropy=cfg.rectifier.loss.cross_entropy,
        reconstruction=cfg.rectifier.loss.reconstruction,
        optimizer=build(cfg.rectifier.optimizer) if cfg.rectifier.optimizer else None,
        scheduler=build(cfg.rectifier.scheduler) if cfg.rectifier.scheduler else None,
        condition=condition,
    )


def find_checkpoint(cfg: DictConfig, run: Run, condition: Condition) -> str | None:
    """The checkpoint to go on from: the one named, or the last one of this folder.

    Raises:
        UapError: it is not ours, or was trained under another condition.
    """
    last = run.folder / "checkpoints" / "last.ckpt"
    path = cfg.ckpt_path or (str(last) if last.exists() else None)
    if path is None:
        return None
    found = read_condition(path)
    for key, value in condition.items():
        if found.get(key) != value:
            raise UapError(
                f"{path} was trained with {key} {found.get(key)}: expected {value}; give the "
                "settings it was trained with, or start anew with overwrite=true."
            )
    log.info("Going on from %s", path)
    return str(path)


def fit(
    cfg: DictConfig,
    trainer: Trainer,
    module: RectifierModule,
    data: PhotographDataModule,
    bank: Bank,
    resume: str | None,
) -> None:
    """Train the rectifier on P*; a callback fits the detector at the end.

    A rectifier without an optimizer takes no step: only its detector is fitted.
    """
    perturbations = extend(bank.train, ball_of(cfg), cfg.bank.extended, cfg.seed)
    data.perturb = PerturbationSampler(
        perturbations, cfg.rectifier.perturbed_share, cfg.rectifier.vary, ball_of(cfg), cfg.seed
    )
    data.train_batch_size = cfg.rectifier.batch_size
    work = "Training" if cfg.rectifier.optimizer else "Fitting the detector of"
    log.info("%s %s with %d perturbations", work, cfg.rectifier.name, len(perturbations))
    with interruptible(trainer):
        trainer.fit(module, datamodule=data, ckpt_path=resume)


def write_defense(
    cfg: DictConfig,
    run: Run,
    module: RectifierModule,
    condition: Condition,
    trained_on: Sequence[str],
) -> Path:
    """Write the defence folder of this run and return its ``defense.json``."""
    arguments = {part: arguments_of(cfg[part].model) for part in ("rectifier", "detector")}
    folder = run.folder / "defense"
    use: dict[str, object] = {
        "classes": module.network.classes(cfg.data.crop),
        "resize": cfg.data.resize,
    }
    save_defense(
        folder, module.rectifier, module.detector, arguments, {**condition, **use}, trained_on
    )
    return folder / "defense.json"
