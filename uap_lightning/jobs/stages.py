"""The stages that several commands walk: data and network, bank, Trainer, test."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger

from uap_lightning.attacks.filling import Recipe, fill_bank
from uap_lightning.attacks.fooling import clean_predictions
from uap_lightning.core.device import pick_device, pick_precision
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, read_tensors, write_tensors
from uap_lightning.data import PhotographDataModule
from uap_lightning.data.crops import CropDataset
from uap_lightning.jobs.config import build
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball, scaled_ball
from uap_lightning.perturbations.bank import Bank, Bounds, open_bank
from uap_lightning.perturbations.sampling import draw_pairs
from uap_lightning.results.row import Row
from uap_lightning.training.callbacks import ComputeMetrics
from uap_lightning.training.module import RectifierModule

Condition = dict[str, str | int | float | None]


def load_data_and_network(cfg: DictConfig) -> tuple[PhotographDataModule, TargetNetwork]:
    """The photographs with the network's predictions on them, and the network on its device.

    Raises:
        UapError: photographs or weights are missing, or do not fit each other.
    """
    data: PhotographDataModule = build(cfg.data)
    data.setup()
    network = load_network(cfg.network, cfg.accelerator)
    check_labels(data, network, network.classes(data.crop))
    data.train = predicted(network, data.train, data.cache_dir)
    data.test = predicted(network, data.test, data.cache_dir)
    return data, network


def load_network(node: DictConfig, accelerator: str) -> TargetNetwork:
    """The network of a config node, on its device."""
    network: TargetNetwork = build(node)
    return network.to(pick_device(accelerator))


def check_labels(data: PhotographDataModule, network: TargetNetwork, classes: int) -> None:
    """Refuse photographs whose true classes are not the network's.

    Raises:
        UapError: a label is not below the number of classes, or class folders that are counted
            in alphabetical order are not as many as the classes.
    """
    folders = data.numbered_classes
    if folders is not None and folders != classes:
        raise UapError(
            f"data.root has {folders} class folders and the network {network.name} has {classes} "
            "classes: name the folders by ImageNet's WordNet ids, give a folder for each class, "
            "or lay the images flat to do without labels."
        )
    highest = int(data.test.label.max())
    if highest >= classes:
        raise UapError(
            f"the photographs have class {highest} and the network {network.name} has {classes} "
            "classes: choose the network that these labels belong to."
        )


def predicted(network: TargetNetwork, crops: CropDataset, cache_dir: Path) -> CropDataset:
    """The same crops with the network's predictions, from the cache where they are known."""
    key = digest_of([network.digest, crops.description()])[:20]
    path = cache_dir / f"predictions-{key}.safetensors"
    if not path.exists():
        write_tensors(path, {"prediction": clean_predictions(network, crops)}, {})
    result = copy(crops)
    result.prediction = read_tensors(path)[0]["prediction"]
    return result


def ball_of(cfg: DictConfig) -> Ball:
    """The ball of the config's norm at the config's crop."""
    return scaled_ball(cfg.norm.p, cfg.norm.eps, cfg.norm.reference_size, cfg.data.crop)


def find_bank(cfg: DictConfig, data: PhotographDataModule, network: TargetNetwork) -> Bank:
    """The bank of this network, norm and data: the one named, or one crafted where missing.

    Raises:
        UapError: the bank named does not fit, or the bounds cannot be met.
    """
    norm = ball_of(cfg)
    network.classes(data.crop)
    if cfg.bank.path is not None:
        return open_bank(Path(cfg.bank.path), network, norm, data.crop)
    settings = OmegaConf.to_container(cfg.attack, resolve=True)
    assert isinstance(settings, dict)
    recipe = Recipe(
        network=network,
        norm=norm,
        attack=build(cfg.attack),
        settings={str(key): value for key, value in settings.items()},
        bounds=Bounds(cfg.bank.min_fooling_ratio, cfg.bank.max_cosine, cfg.bank.attempts),
        craft=predicted(network, data.craft, data.cache_dir),
        unseen=data.unseen and predicted(network, data.unseen, data.cache_dir),
        seed=cfg.seed,
    )
    return fill_bank(Path(cfg.paths.bank_dir), recipe, cfg.bank.train, cfg.bank.test)


def build_trainer(cfg: DictConfig, loggers: Sequence[Logger] = (), **arguments: int) -> Trainer:
    """The Trainer of the config with its callbacks, these loggers, and further arguments."""
    trainer: Trainer = build(
        cfg.trainer,
        precision=pick_precision(cfg.trainer.precision, pick_device(cfg.accelerator)),
        callbacks=[build(callback) for callback in cfg.callbacks.values()],
        logger=loggers,
        default_root_dir=cfg.paths.output_dir,
        **arguments,
    )
    return trainer


def test(
    cfg: DictConfig,
    trainer: Trainer,
    module: RectifierModule,
    data: PhotographDataModule,
    bank: Bank,
    condition: Condition,
) -> list[Row]:
    """Test on unseen photographs and unseen perturbations: one row for each protocol."""
    data.draw = draw_pairs(bank.test, len(data.test), cfg.seed)
    with interruptible(trainer):
        trainer.test(module, datamodule=data, verbose=False)
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
            **vars(numbers),
        )
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, ComputeMetrics)
        for protocol, numbers in callback.rows.items()
    ]


@contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Let Ctrl-C through: Lightning would turn it into a plain exit."""
    try:
        yield
    except SystemExit as stopped:
        if trainer.interrupted:
            raise KeyboardInterrupt from stopped
        raise
