"""The stages that several commands walk: data and network, bank, Trainer, test."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from uap_lightning.attacks.filling import fill_bank
from uap_lightning.attacks.fooling import Chosen, clean_predictions
from uap_lightning.attacks.recipe import Recipe
from uap_lightning.attacks.registry import recorded
from uap_lightning.attacks.universal import Attack
from uap_lightning.core.device import computes_bf16, is_first, pick_device, pick_precision
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, read_tensors, write_tensors
from uap_lightning.core.terminal import console
from uap_lightning.data import Collection, EvaluationDataModule
from uap_lightning.data.crops import CropDataset
from uap_lightning.jobs.config import build
from uap_lightning.jobs.groups import Node
from uap_lightning.jobs.schema import CraftConfig, MeasureConfig
from uap_lightning.jobs.streaming import streamed
from uap_lightning.jobs.training_groups import TrainingConfig
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.bank import Bank, Bounds, check_unseen, open_bank
from uap_lightning.perturbations.sampling import draw_pairs
from uap_lightning.results.row import Row
from uap_lightning.streams.whitening import Whitener
from uap_lightning.training.callbacks import ComputeMetrics
from uap_lightning.training.checkpoint_io import AtomicCheckpointIO
from uap_lightning.training.kept import KeptOutcomes, key_of
from uap_lightning.training.module import RectifierModule

log = logging.getLogger(__name__)

# What a defence was trained on, as plain strings and numbers.
Condition = dict[str, str | int | float | None]

# Parts of a collection whose classes a run may need, besides those that it crafts on.
Predicted = Literal["train", "test", "validation"]
# Crops that are predicted between two writes; whole batches, so that no other ones are made.
_BLOCK = 512
# Part of the key of cached predictions.
_FORMAT = 2


def load_data_and_network(
    cfg: CraftConfig, needed: Sequence[Predicted] = ("train", "test", "validation")
) -> tuple[Collection, TargetNetwork]:
    """The photographs, some with the network's predictions, and the network on its device.

    Args:
        cfg: of the run.
        needed: the parts of the collection that are predicted; :func:`find_bank` predicts what
            it crafts on.

    Raises:
        UapError: photographs or weights are missing, or do not fit each other.
    """
    data = build(cfg.data, Collection)
    network = load_network(cfg.network, cfg.accelerator)
    check_labels(data, network)

    def known(part: Predicted, crops: CropDataset) -> CropDataset:
        return predicted(network, crops, data.cache_dir) if part in needed else crops

    train, test = known("train", data.train), known("test", data.test)
    validation = data.validation and known("validation", data.validation)
    return replace(data, train=train, test=test, validation=validation), network


def load_network(node: Node, accelerator: str) -> TargetNetwork:
    """The network of a config node, on its device."""
    return build(node, TargetNetwork).to(pick_device(accelerator))


def check_labels(data: Collection, network: TargetNetwork) -> None:
    """Refuse photographs whose true classes are not the network's.

    Raises:
        UapError: they are of another number of classes, or a label is not below it.
    """
    classes = network.classes(data.crop)
    labelled = data.classes
    if labelled is not None and labelled != classes:
        raise UapError(
            f"the photographs are labelled with {labelled} classes and the network {network.name} "
            f"has {classes}: choose the network that these labels belong to, name class folders by "
            "ImageNet's WordNet ids, give a folder for each class, or lay the images flat to do "
            "without labels."
        )
    highest = int(data.test.label.max())
    if highest >= classes:
        raise UapError(
            f"the photographs have class {highest} and the network {network.name} has {classes} "
            "classes: choose the network that these labels belong to."
        )


def predicted(network: TargetNetwork, crops: CropDataset, cache_dir: Path) -> CropDataset:
    """The same crops with the network's predictions, from the cache where they are known."""
    # Two architectures may take the same weights: name and layers are part of the key.
    key = digest_of(
        [_FORMAT, network.name, str(network.model), network.digest, crops.description()]
    )
    path = cache_dir / f"predictions-{key[:20]}.safetensors"
    if not path.exists():
        part = path.with_name(f"{path.name}.part")
        done = _begun(part)
        while len(done) < len(crops):
            numbers = range(len(done), min(len(done) + _BLOCK, len(crops)))
            block = clean_predictions(network, Chosen(crops, numbers))
            done = torch.cat([done, block])
            # Minutes on a slow machine: what is stopped goes on.
            write_tensors(part if len(done) < len(crops) else path, {"prediction": done}, {})
        part.unlink(missing_ok=True)
    result = copy(crops)
    result.prediction = read_tensors(path)[0]["prediction"]
    return result


def _begun(part: Path) -> Tensor:
    """The predictions that an interrupted run has left in a file, if any."""
    try:
        return read_tensors(part)[0]["prediction"]
    except (UapError, KeyError):
        return torch.empty(0, dtype=torch.long)


def find_bank(cfg: CraftConfig, data: Collection, network: TargetNetwork) -> Bank:
    """The bank of this network, norm and data: the one named, or one crafted where missing.

    Args:
        cfg: the job's.
        data: the photographs; those that it crafts on are predicted here.
        network: that perturbations are crafted on.

    Raises:
        UapError: the bank named does not fit, or the bounds cannot be met.
    """
    norm = cfg.ball()
    network.classes(data.crop)
    if cfg.bank.path is not None:
        bank = open_bank(Path(cfg.bank.path), network, norm, data.crop)
        check_unseen(bank, data.tested_on)
        return bank
    attack: Attack = build(cfg.attack)
    recipe = Recipe(
        network=network,
        norm=norm,
        attack=attack,
        settings=recorded(attack, cfg.attack),
        bounds=Bounds(cfg.bank.min_fooling_ratio, cfg.bank.max_cosine, cfg.bank.attempts),
        craft=predicted(network, data.craft, data.cache_dir),
        unseen=data.unseen and predicted(network, data.unseen, data.cache_dir),
        photographs=tuple(data.crafted_on),
        seed=cfg.seed,
    )
    return fill_bank(Path(cfg.paths.bank_dir), recipe, cfg.bank.train, cfg.bank.test)


def build_trainer(
    cfg: MeasureConfig,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    training: TrainingConfig | None = None,
    crops: int = 0,
) -> Trainer:
    """The Trainer of the config.

    Args:
        cfg: the job's.
        loggers: it logs to.
        callbacks: of the stage's own, before those of the config.
        training: how the rectifier is trained; None for a test alone.
        crops: that it is trained on.

    Raises:
        UapError: Lightning refuses an argument.
    """
    device = pick_device(cfg.accelerator)
    precision = pick_precision(training.precision if training else "32-true", device)
    if precision == "bf16-mixed" and not computes_bf16(device):
        log.warning(
            "rectifier.training.precision is bf16-mixed and this %s has no instructions for bf16, "
            "so every step takes longer: expected auto or 32-true.",
            device.type,
        )
    if is_first():
        # Lightning takes a number that a job script hands on for this process's own.
        setattr(rank_zero_only, "rank", 0)  # noqa: B010 - declared as a plain function
    steps = count_steps(training, crops) if training else 0
    epochs = math.ceil(steps / epoch_of(training, crops)) if training else 0
    # A file is no place for bars.
    nodes = {k: v for k, v in cfg.callbacks.items() if k != "progress" or console.is_terminal}
    return build(
        cfg.trainer,
        Trainer,
        precision=precision,
        gradient_clip_val=training.gradient_clip if training else None,
        callbacks=[*callbacks, *(build(node, Callback) for node in nodes.values())],
        enable_progress_bar="progress" in nodes,
        logger=list(loggers),
        default_root_dir=cfg.paths.output_dir,
        max_steps=steps,
        max_epochs=epochs,
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,  # the data modules give each process its part
    )


def epoch_of(training: TrainingConfig, crops: int) -> int:
    """Steps that see every crop once."""
    return math.ceil(crops / training.batch_size)


def count_steps(training: TrainingConfig, crops: int) -> int:
    """Training steps: those of the config, or as many as its epochs have."""
    return training.steps if training.steps > 0 else epoch_of(training, crops) * training.epochs


def test(
    cfg: MeasureConfig,
    trainer: Trainer,
    module: RectifierModule,
    metrics: ComputeMetrics,
    data: Collection,
    bank: Bank,
    condition: Condition,
    whitener: Whitener | None,
) -> list[Row]:
    """Test on unseen photographs and unseen perturbations: one row for each protocol.

    Args:
        cfg: the job's.
        trainer: with ``metrics`` among its callbacks.
        module: what is tested.
        metrics: computes the numbers of the rows.
        data: whose test crops are taken.
        bank: whose test perturbations are taken.
        condition: what the defence was trained on.
        whitener: of the guard with memory, which is tested as well where one is given.
    """
    draw = draw_pairs(bank.test, len(data.test), cfg.seed)
    crops = EvaluationDataModule(data.test, draw, data.batch_size, data.num_workers)
    kept = Path(str(cfg.paths.output_dir), "outcomes.safetensors")
    if trainer.world_size == 1:
        # Lightning ends no test that has no batch.
        most = (len(data.test) - 1) // data.batch_size * data.batch_size
        crops.first = metrics.keep(KeptOutcomes(kept, key_of(module, crops)), most)
        if crops.first:
            log.info("Going on with test image %d of %d", crops.first + 1, len(data.test))
    with interruptible(trainer):
        trainer.test(module, datamodule=crops, verbose=False)
    numbers = metrics.rows
    if is_first():
        if whitener is not None:
            numbers = streamed(module, whitener, data.test, draw, metrics, cfg.seed)
        kept.unlink(missing_ok=True)
    labelled = bool((data.test.label >= 0).all())
    attack = bank.records[-1].attack.get("name")
    return [
        Row(
            train_network=str(condition["train_network"]),
            train_norm=str(condition["train_norm"]),
            rectifier=str(condition["rectifier"]),
            detector=str(condition["detector"]),
            test_network=module.network.name,
            perturbation_network=bank.records[-1].network,
            attack=None if attack is None else str(attack),
            test_norm=cfg.norm.name,
            protocol=protocol,
            label_source="ground_truth" if labelled else "prediction",
            **vars(measured),
        )
        for protocol, measured in numbers.items()
    ]


def metrics_of(cfg: MeasureConfig) -> ComputeMetrics:
    """The callback that computes the rows of the config's protocols."""
    return ComputeMetrics({name: p.protocol() for name, p in cfg.protocol.items()}, cfg.seed)


@contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Let Ctrl-C through: Lightning would turn it into a plain exit."""
    try:
        yield
    except SystemExit as stopped:
        if trainer.interrupted:
            raise KeyboardInterrupt from stopped
        raise
