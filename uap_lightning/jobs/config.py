"""Where ``conf/`` is, the typed schema, and how a node of it is built."""

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from uap_lightning.core.errors import UapError

# Keys of a group's node that the command line and other nodes read.
NOT_ARGUMENTS = ("name", "root")


def find_conf() -> str:
    """The folder of the configs: in the wheel inside the package, in a checkout beside it.

    Raises:
        UapError: neither holds ``train.yaml``.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise UapError(
        f"no conf/train.yaml in {package} or {package.parent}: the installation is incomplete; "
        "install uap-lightning again."
    )


@dataclass
class NormConfig:
    """The ball that perturbations live in."""

    name: str = MISSING
    p: float = MISSING
    eps: float = MISSING
    reference_size: int | None = None


@dataclass
class ProtocolConfig:
    """A test protocol."""

    correct_only: bool = MISSING
    perturbed_share: float = MISSING


@dataclass
class BankConfig:
    """How many perturbations, and the bounds they keep."""

    train: int = MISSING
    test: int = MISSING
    extended: int = MISSING
    min_fooling_ratio: float = MISSING
    max_cosine: float = MISSING
    attempts: int = MISSING
    path: str | None = None


@dataclass
class LossConfig:
    """Weights of the two terms of the training loss."""

    cross_entropy: float = MISSING
    reconstruction: float = MISSING


@dataclass
class RectifierConfig:
    """A rectifier and how it is trained; without an optimizer it is not."""

    name: str = MISSING
    model: dict[str, Any] = MISSING
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: dict[str, Any] | None = MISSING
    scheduler: dict[str, Any] | None = None
    batch_size: int = MISSING
    epochs: int = MISSING
    steps: int = MISSING
    precision: str = MISSING
    gradient_clip: float | None = None
    perturbed_share: float = MISSING
    vary: bool = MISSING


@dataclass
class DetectorConfig:
    """A detector and the sample it is fitted on."""

    name: str = MISSING
    model: dict[str, Any] = MISSING
    max_images: int = MISSING
    perturbed_share: float = MISSING


@dataclass
class CacheConfig:
    """Where what can be computed again is kept."""

    cache_dir: str = MISSING


@dataclass
class PathsConfig(CacheConfig):
    """Where files go."""

    output_dir: str | None = MISSING  # None while a config is printed
    bank_dir: str = MISSING


@dataclass
class JobConfig:
    """What every command has."""

    name: str = MISSING
    seed: int = MISSING
    overwrite: bool = False
    accelerator: str = "auto"
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class CraftConfig(JobConfig):
    """``python -m uap_lightning.craft``."""

    network: dict[str, Any] = MISSING
    norm: NormConfig = field(default_factory=NormConfig)
    data: dict[str, Any] = MISSING
    attack: dict[str, Any] = MISSING
    bank: BankConfig = field(default_factory=BankConfig)
    logger: dict[str, Any] = MISSING


@dataclass
class MeasureConfig(CraftConfig):
    """What training and evaluation share: both end in a test."""

    protocol: dict[str, ProtocolConfig] = MISSING
    trainer: dict[str, Any] = MISSING
    callbacks: dict[str, Any] = MISSING


@dataclass
class TrainConfig(MeasureConfig):
    """``python -m uap_lightning.train``."""

    rectifier: RectifierConfig = field(default_factory=RectifierConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    ckpt_path: str | None = None


@dataclass
class EvaluateConfig(MeasureConfig):
    """``python -m uap_lightning.evaluate``."""

    defense: str = MISSING
    perturbation_network: dict[str, Any] | None = None


@dataclass
class ReportConfig:
    """``python -m uap_lightning.report``."""

    results: str = MISSING
    output: str = MISSING
    paper: str | None = None


def evaluation_name(*, _root_: DictConfig) -> str:
    """What an evaluation is called: its defence, and the condition it is tested under."""
    defense = Path(str(_root_.defense)).resolve()
    trained = defense.parent.name if defense.name == "defense" else defense.name
    other = _root_.perturbation_network
    crafted = [] if other is None else [f"perturbed-by-{other.name}"]
    bank = _root_.bank.path
    family = _root_.attack.name if bank is None else Path(str(bank)).resolve().name
    tested = [_root_.network.name, *crafted, family, _root_.norm.name, _root_.data.name]
    return "-".join([trained, "on", *tested, f"seed{_root_.seed}"])


@dataclass
class UseConfig:
    """What the commands that use a trained defence share."""

    defense: str = MISSING
    network: dict[str, Any] = MISSING
    output: str = MISSING
    overwrite: bool = False
    paths: CacheConfig = field(default_factory=CacheConfig)


@dataclass
class ExportConfig(UseConfig):
    """``python -m uap_lightning.export``."""

    pixels: str = MISSING
    precision: int = MISSING


@dataclass
class PredictConfig(UseConfig):
    """``python -m uap_lightning.predict``."""

    images: str = MISSING
    resize: int | None = None
    class_names: str | None = None
    batch_size: int = MISSING
    num_workers: int | None = None
    accelerator: str = "auto"


def register_schemas() -> None:
    """Make schemas and resolvers known to Hydra under the names that the configs use."""
    OmegaConf.register_new_resolver("evaluation_name", evaluation_name, replace=True)
    store = ConfigStore.instance()
    for name, schema in (
        ("craft_schema", CraftConfig),
        ("train_schema", TrainConfig),
        ("evaluate_schema", EvaluateConfig),
        ("report_schema", ReportConfig),
        ("export_schema", ExportConfig),
        ("predict_schema", PredictConfig),
    ):
        store.store(name=name, node=schema)


def build(node: DictConfig, **arguments: object) -> Any:
    """Instantiate a node; ``name`` and ``root`` are for people, not arguments.

    Raises:
        UapError: what the target refuses, as it says it.
    """
    content = OmegaConf.to_container(node, resolve=True)
    assert isinstance(content, dict)
    taken = inspect.signature(get_object(content["_target_"])).parameters
    settings = {k: v for k, v in content.items() if k in taken or k not in NOT_ARGUMENTS}
    try:
        return instantiate(settings, **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, UapError):
            raise error.__cause__ from None
        raise


def arguments_of(node: DictConfig) -> dict[str, object]:
    """What a node hands to its target: all but the keys that are Hydra's own."""
    content = OmegaConf.to_container(node, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if not str(key).startswith("_")}
