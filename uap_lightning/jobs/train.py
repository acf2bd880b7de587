"""The whole way, from photographs to a tested defence."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from uap_lightning.core.device import is_first
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, digest_of_file, write_atomically, write_json
from uap_lightning.data import Collection, TrainingDataModule
from uap_lightning.guard.defense_folder import CARD, RECORD, load_defense, save_defense
from uap_lightning.jobs.building import build_module, build_parts, find_early, load_matched
from uap_lightning.jobs.config import arguments_of
from uap_lightning.jobs.ddp import ranks
from uap_lightning.jobs.loggers import build_loggers, log_bank, log_defense, log_rows
from uap_lightning.jobs.origins import (
    Origin,
    check_place,
    check_same_origins,
    check_tested,
    read_origins,
    teacher_of,
)
from uap_lightning.jobs.perturbing import apart_from, read_further, sampler_of
from uap_lightning.jobs.run import running
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.jobs.stages import (
    Condition,
    build_trainer,
    count_steps,
    epoch_of,
    find_bank,
    interruptible,
    load_data_and_network,
    metrics_of,
    test,
)
from uap_lightning.jobs.streaming import check_whitener, fit_whitener
from uap_lightning.jobs.training_groups import TrainingConfig
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.bank import Bank, identities
from uap_lightning.perturbations.sampling import PerturbationSampler
from uap_lightning.results.card import card
from uap_lightning.results.rows import Result
from uap_lightning.results.screen import show
from uap_lightning.streams.whitening import Whitener
from uap_lightning.training.callbacks import FitDetector
from uap_lightning.training.checkpoint_io import own_checkpoint
from uap_lightning.training.fitting import DetectorSample, fit_on_crops
from uap_lightning.training.module import RectifierModule, read_condition
from uap_lightning.training.validating import Validate
from uap_lightning.training.watching import LossWatch, WatchTraining

log = logging.getLogger(__name__)

# Of a training condition: there only where a training has them.
_OPTIONAL = ("further", "matched", "start", "teacher")


def train(composed: DictConfig) -> float | None:
    """Walk the whole way and return the defense rate of the first protocol, in percent."""
    check_place(composed)
    with running(composed, TrainConfig) as run:
        if not run.finished:
            cfg = run.config
            if cfg.ckpt_path is not None:
                read_condition(cfg.ckpt_path)
            loggers = build_loggers(cfg, run, "train")
            with run.stage("data"):
                data, network = load_data_and_network(cfg)
            if is_first():
                write_json(run.folder / "split.json", data.split_lists)
            parts = build_parts(cfg, data.crop)
            matched = load_matched(cfg, data.crop)
            early = find_early(cfg, [network, *matched], data.crop)
            origins = read_origins(cfg, parts[0], data)
            further, seen = read_further(cfg, data)
            whitener = fit_whitener(data)
            tested = check_whitener(whitener) if cfg.stream else None
            training = cfg.rectifier.training
            sample = detector_sample(cfg, data)
            metrics = metrics_of(cfg)
            own = [*training_callbacks(cfg, data), FitDetector(sample), metrics]
            trainer = build_trainer(cfg, loggers, own, training, len(data.train))
            with ranks(trainer):
                with run.stage("craft"):
                    bank = find_bank(cfg, data, network)
                log_bank(loggers, bank)
                check_tested(origins, bank)
                further = apart_from(bank, further, cfg.bank.further)
                sampler = sampler_of(cfg, bank, further)
                condition = training_condition(cfg, data, network, bank, further, matched, origins)
                taught = teacher_of(origins)
                module = build_module(cfg, network, parts, condition, matched, early, taught)
                folder = run.folder / "defense"
                with run.stage("train"):
                    if take_defense(folder, module, condition):
                        log.info("%s is trained: going on with its test", folder)
                    elif training is None:
                        fit_filter(cfg, module, data, sampler, sample)
                    else:
                        resume = find_checkpoint(cfg, run.folder, condition)
                        fit(cfg, training, trainer, module, data, sampler, resume)
                    if is_first():
                        # Before the test: what is stopped there is not trained again.
                        own_known = identities(torch.cat([bank.train, *further]))
                        known = {*own_known, *seen.perturbations}
                        photographs = {*data.trained_on, *bank.photographs, *seen.photographs}
                        for origin in origins:
                            photographs |= set(origin.trained_on.photographs)
                            known |= set(origin.trained_on.perturbations)
                        write_defense(cfg, folder, module, condition, photographs, known, whitener)
                with run.stage("test"):
                    rows = test(cfg, trainer, module, metrics, data, bank, condition, tested)
            if not is_first():
                return None
            run.content["rows"] = rows
            defense = digest_of_file(folder / RECORD)
            joined = {key: str(condition[key]) for key in _OPTIONAL if key in condition}
            run.content["digests"] = {"bank": bank.digest, "defense": defense, **joined}
            described = card({**condition, "classes": network.classes(data.crop)}, run.result)
            write_atomically(folder / CARD, described.encode())
            log_rows(loggers, rows)
            log_defense(loggers, cfg.name, folder)
        else:
            check_same_origins(run.config, run.folder, run.content["digests"])
            log.info("%s is finished already; overwrite=true runs it again.", run.folder)
    show([Result(run.folder.name, run.folder, run.result)])
    rows = run.result.rows
    return rows[0].defense_rate if rows else None


def detector_sample(cfg: TrainConfig, data: Collection) -> DetectorSample:
    """Which training images the detector is fitted on."""
    detector, held_out = cfg.detector, data.validation
    fitted = (detector.max_images, detector.perturbed_share, data.batch_size, cfg.seed)
    recolour = cfg.rectifier.training.recolour if cfg.rectifier.training is not None else 0.0
    return DetectorSample(*fitted, detector.false_alarms, held_out, detector.harmless, recolour)


def training_callbacks(cfg: TrainConfig, data: Collection) -> list[Callback]:
    """What watches a training and validates it, in the order of their work."""
    training = cfg.rectifier.training
    if training is None:
        return []
    steps, weights = count_steps(training, len(data.train)), training.loss
    unit = weights.total()
    watch = LossWatch(steps, unit=unit, falls=training.start is None)
    callbacks: list[Callback] = [WatchTraining(watch)]
    if data.validation is not None:
        every = training.validate_every or epoch_of(training, len(data.train))
        best = training.keep == "best"
        callbacks.append(Validate(data.validation, every, best, data.batch_size, cfg.seed))
    return callbacks


def training_condition(
    cfg: TrainConfig,
    data: Collection,
    network: TargetNetwork,
    bank: Bank,
    further: Sequence[Tensor],
    matched: Sequence[TargetNetwork] = (),
    origins: Sequence[Origin] = (),
) -> Condition:
    """What the rectifier is trained on, as strings and numbers."""
    joined = {"further": digest_of([identities(group) for group in further])} if further else {}
    others = {"matched": digest_of([n.digest for n in matched])} if matched else {}
    built = {origin.key: origin.defense.digest for origin in origins}
    return {
        **joined,
        **others,
        **built,
        "train_network": network.name,
        "train_norm": cfg.norm.name,
        "eps": cfg.ball().eps,
        "size": data.crop,
        "data": cfg.data["name"],
        "test_split": data.test_split,
        "bank": bank.digest,
        "rectifier": cfg.rectifier.name,
        "detector": cfg.detector.name,
        "seed": cfg.seed,
    }


def find_checkpoint(cfg: TrainConfig, folder: Path, condition: Condition) -> str | None:
    """The checkpoint to go on from: the one named, or the last one of this folder.

    Raises:
        UapError: it is not ours, or was trained under another condition.
    """
    path = cfg.ckpt_path or own_checkpoint(folder / "checkpoints" / "last.ckpt")
    if path is None:
        return None
    found = read_condition(str(path))
    for key in (*condition, *(key for key in _OPTIONAL if key not in condition)):
        if found.get(key) != condition.get(key):
            raise UapError(
                f"{path} was trained with {key} {found.get(key)}: expected {condition.get(key)}; "
                "give the settings it was trained with, or start anew with overwrite=true."
            )
    log.info("Going on from %s", path)
    return str(path)


def fit(
    cfg: TrainConfig,
    training: TrainingConfig,
    trainer: Trainer,
    module: RectifierModule,
    data: Collection,
    sampler: PerturbationSampler,
    resume: str | None,
) -> None:
    """Train the rectifier on what is drawn; a callback fits the detector at the end."""
    log.info("Training %s with %d perturbations", cfg.rectifier.name, len(sampler.perturbations))
    size, seed, workers = training.batch_size, cfg.seed, data.num_workers
    crops = TrainingDataModule(data.train, sampler, size, seed, workers, training.recolour)
    if training.compile:
        log.info("Compiling the rectifier")
        device = trainer.strategy.root_device
        count = -(-training.batch_size // trainer.world_size)
        batch = torch.full((count, 3, data.crop, data.crop), 127.0, device=device)
        with trainer.precision_plugin.forward_context():
            module.to(device).compile_rectifier(batch)
    with interruptible(trainer):
        trainer.fit(module, datamodule=crops, ckpt_path=resume)
    if trainer.global_step != trainer.max_steps:
        raise UapError(
            f"training ended at step {trainer.global_step} of {trainer.max_steps}: expected the "
            "whole; start anew with overwrite=true."
        )


def fit_filter(
    cfg: TrainConfig,
    module: RectifierModule,
    data: Collection,
    sampler: PerturbationSampler,
    sample: DetectorSample,
) -> None:
    """Fit the detector behind a rectifier that is not trained."""
    log.info("Fitting the detector behind %s", cfg.rectifier.name)
    device = module.network.mean.device
    module.to(device)
    fit_on_crops(module.detector, module.rectifier, data.train, sampler, sample, device)


def take_defense(folder: Path, module: RectifierModule, condition: Condition) -> bool:
    """Take up the whole defence that this run wrote before it was stopped, if it did.

    A folder that is half written is none: the run trains again, from its last checkpoint.
    """
    try:
        found = load_defense(folder)
    except UapError:
        return False
    if any(found.condition.get(key) != value for key, value in condition.items()):
        return False
    module.rectifier.load_state_dict(found.rectifier.state_dict())
    module.detector.load_state_dict(found.detector.state_dict())
    return True


def write_defense(
    cfg: TrainConfig,
    folder: Path,
    module: RectifierModule,
    condition: Condition,
    photographs: set[str],
    perturbations: set[str],
    whitener: Whitener | None,
) -> None:
    """Write the defence folder of this run, with the identities of what it was trained on."""
    arguments = {
        "rectifier": arguments_of(cfg.rectifier.model),
        "detector": arguments_of(cfg.detector.model),
    }
    use: dict[str, object] = {
        "classes": module.network.classes(int(cfg.data["crop"])),
        "resize": cfg.data["resize"],
    }
    described = {**condition, **use}
    save_defense(
        folder,
        module.rectifier,
        module.detector,
        arguments,
        described,
        sorted(photographs),
        sorted(perturbations),
        whitener,
    )
