"""Fill a bank of perturbations: ``python -m uap_lightning.craft network=... norm=...``."""

import logging
from copy import copy
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from uap_lightning.attacks.fooling import clean_predictions
from uap_lightning.config import build
from uap_lightning.data import PhotographDataModule
from uap_lightning.data.crops import CropDataset
from uap_lightning.device import pick_device
from uap_lightning.errors import UapError
from uap_lightning.launch import launch
from uap_lightning.loggers import build_loggers, log_bank
from uap_lightning.networks import TargetNetwork
from uap_lightning.norms import LpNorm, ball
from uap_lightning.perturbations.bank import Bank, Bounds, open_bank
from uap_lightning.perturbations.fill import Recipe, fill_bank
from uap_lightning.run import running
from uap_lightning.storage import digest_of, read_tensors, write_json, write_tensors

log = logging.getLogger(__name__)


def craft(cfg: DictConfig) -> None:
    """Craft what the bank lacks and say where it is."""
    with running(cfg) as run:
        if run.finished and is_whole(cfg, run.content.get("bank")):
            log.info("The bank is complete; overwrite=true checks it again.")
            return
        loggers = build_loggers(cfg, run, "craft")
        with run.stage("data"):
            data, network = load_data_and_network(cfg)
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


def is_whole(cfg: DictConfig, name: object) -> bool:
    """Whether the bank of this name is where it should be, with all its perturbations."""
    given = cfg.bank.path
    folder = Path(cfg.paths.bank_dir) / str(name) if given is None else Path(given)
    return all(
        len(list(folder.glob(f"{part}-*.safetensors"))) >= cfg.bank[part]
        for part in ("train", "test")
    )


def load_data_and_network(cfg: DictConfig) -> tuple[PhotographDataModule, TargetNetwork]:
    """The photographs with the network's predictions on them, and the network on its device.

    Raises:
        UapError: photographs or weights are missing, or do not fit each other.
    """
    data: PhotographDataModule = build(cfg.data)
    data.setup()
    network = load_network(cfg.network, cfg.accelerator)
    check_labels(data, network, network.check_size(data.crop))
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


def ball_of(cfg: DictConfig) -> LpNorm:
    """The ball of the config's norm at the config's crop."""
    return ball(cfg.norm.p, cfg.norm.eps, cfg.norm.reference_size, cfg.data.crop)


def find_bank(cfg: DictConfig, data: PhotographDataModule, network: TargetNetwork) -> Bank:
    """The bank of this network, norm and data: the one named, or one crafted where missing.

    Raises:
        UapError: the bank named does not fit, or the bounds cannot be met.
    """
    norm = ball_of(cfg)
    network.check_size(data.crop)
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


def main() -> None:
    """Console script ``uap-craft``."""
    launch(craft, "craft")


if __name__ == "__main__":
    main()
