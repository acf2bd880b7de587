"""The typed config of each command.

Hydra composes and types them; :func:`uap_lightning.jobs.config.typed` makes the dataclasses, whose
``__post_init__`` refuses what is out of its range.
"""

from dataclasses import dataclass, field

from omegaconf import MISSING

from uap_lightning.core.errors import UapError
from uap_lightning.data.decoding import MAX_BYTES, MAX_PIXELS
from uap_lightning.jobs.groups import (
    BankConfig,
    CacheConfig,
    DetectorConfig,
    Node,
    NormConfig,
    PathsConfig,
    ProtocolConfig,
    check_accelerator,
    whole,
)
from uap_lightning.jobs.training_groups import RectifierConfig
from uap_lightning.perturbations.ball import Ball

# Trainer's arguments that would quietly change which crops are trained or tested on, and those
# that the job sets.
_NOT_TO_SET = (
    *("accumulate_grad_batches", "fast_dev_run", "overfit_batches", "limit_train_batches"),
    *("limit_val_batches", "limit_test_batches", "limit_predict_batches", "max_time", "num_nodes"),
    *("precision", "gradient_clip_val", "max_steps", "max_epochs", "callbacks", "logger"),
    *(
        "default_root_dir",
        "enable_progress_bar",
        "use_distributed_sampler",
        "min_steps",
        "min_epochs",
    ),
)
FITS = ("resize", "crop")  # how a scan brings images to one size
ENGINES = ("local", "ray")  # where a folder is gone through
HOSTS = ("127.0.0.1", "0.0.0.0", "::")  # that LitServe listens on: this machine, all IPv4, all


def check_engine(engine: str) -> None:
    """Refuse what is no engine of ours.

    Raises:
        UapError: it is none.
    """
    if engine not in ENGINES:
        raise UapError(f"engine is {engine}: expected one of {', '.join(ENGINES)}.")


@dataclass
class CraftConfig:
    """``python -m uap_lightning.craft``."""

    name: str = MISSING
    seed: int = MISSING
    overwrite: bool = False
    accelerator: str = "auto"
    paths: PathsConfig = MISSING
    network: Node = MISSING
    norm: NormConfig = MISSING
    data: Node = MISSING
    attack: Node = MISSING
    bank: BankConfig = MISSING
    logger: Node = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole("seed", self.seed, 0, 2**32 - 1)
        if not self.name.strip():
            raise UapError("name is empty: expected a name for the run and its folder.")
        check_accelerator(self.accelerator)
        _check_options("logger", self.logger)
        self.ball()
        enough, least = self.attack.get("stop_at"), self.bank.min_fooling_ratio
        if isinstance(enough, int | float) and enough < least:
            raise UapError(
                f"attack.stop_at is {enough} and bank.min_fooling_ratio {least}: expected it to "
                "stop at more than the bank asks for; raise the first, or lower the second."
            )

    def ball(self) -> Ball:
        """The ball at the size of the crops."""
        return self.norm.ball(int(self.data["crop"]))


def _check_options(group: str, options: Node) -> None:
    """Refuse what stands in a group and is none of its options."""
    for name, node in options.items():
        if not isinstance(node, dict) or "_target_" not in node:
            raise UapError(
                f"{group}.{name} is {node}: expected an option of the group {group}, which has a "
                "_target_."
            )


@dataclass
class MeasureConfig(CraftConfig):
    """What training and evaluation share: both end in a test."""

    protocol: dict[str, ProtocolConfig] = MISSING
    stream: bool = False
    trainer: Node = MISSING
    callbacks: Node = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.protocol:
            raise UapError("protocol is empty: expected at least one, such as protocol=[a].")
        _check_options("callbacks", self.callbacks)
        for key in _NOT_TO_SET:
            if key in self.trainer:
                raise UapError(
                    f"trainer.{key} is {self.trainer[key]}: expected it to be left out, because "
                    "the job decides it and its result would not be what is reported; see the "
                    "keys of rectifier.training, callbacks and logger."
                )


@dataclass
class TrainConfig(MeasureConfig):
    """``python -m uap_lightning.train``."""

    rectifier: RectifierConfig = MISSING
    detector: DetectorConfig = MISSING
    ckpt_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("bank.train", self.bank.train, 1)
        strategy = self.trainer.get("strategy", "auto")
        training, held = self.rectifier.training, self.data.get("validation_share", 0)
        if training is not None and training.keep == "best" and not held:
            raise UapError(
                f"rectifier.training.keep is best and data.validation_share is {held}: expected a "
                "share of the training photographs to validate on, such as 0.1."
            )
        if self.rectifier.training is None and strategy != "auto":
            raise UapError(
                f"trainer.strategy is {strategy} and rectifier={self.rectifier.name} is not "
                "trained: set trainer=default, one process is all it takes."
            )


@dataclass
class EvaluateConfig(MeasureConfig):
    """``python -m uap_lightning.evaluate``."""

    defense: str = MISSING
    perturbation_network: Node | None = None


@dataclass
class ReportConfig:
    """``python -m uap_lightning.report``."""

    results: str = MISSING
    output: str = MISSING
    paper: str | None = None


@dataclass
class UseConfig:
    """What the commands that use a trained defence share."""

    defense: str = MISSING
    network: Node = MISSING
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
    engine: str = "local"
    num_workers: int | None = None
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        whole("batch_size", self.batch_size, 1, 65_536)
        check_engine(self.engine)
        if self.engine == "ray" and self.accelerator not in ("auto", "cpu"):
            raise UapError(
                f"engine is ray and accelerator {self.accelerator}: expected auto or cpu, because "
                "the workers of Ray compute on processors; use engine=local for a GPU."
            )
        if self.resize is not None:
            whole("resize", self.resize, 1)
        if self.num_workers is not None:
            whole("num_workers", self.num_workers, 1, 1_024)
        check_accelerator(self.accelerator)


@dataclass
class LimitsConfig:
    """What a service takes on at most."""

    bytes: int = MISSING
    pixels: int = MISSING
    waiting: int = MISSING
    seconds: float = MISSING

    def __post_init__(self) -> None:
        whole("limits.bytes", self.bytes, 1, MAX_BYTES)
        whole("limits.pixels", self.pixels, 1, MAX_PIXELS)
        whole("limits.waiting", self.waiting, 1, 1_000_000)
        if not 0 < self.seconds <= 86_400:
            raise UapError(f"limits.seconds is {self.seconds}: expected above 0, at most 86400.")


@dataclass
class ServeConfig:
    """``python -m uap_lightning.serve``."""

    defense: str = MISSING
    network: Node = MISSING
    store: str | None = None
    host: str = MISSING
    port: int = MISSING
    workers: int = MISSING
    batch_size: int = MISSING
    wait: float = MISSING
    limits: LimitsConfig = MISSING
    resize: int | None = None
    class_names: str | None = None
    bf16: bool = False
    accelerator: str = "auto"
    paths: CacheConfig = field(default_factory=CacheConfig)

    def __post_init__(self) -> None:
        if self.host not in HOSTS:
            raise UapError(f"host is {self.host}: expected one of {', '.join(HOSTS)}.")
        whole("port", self.port, 1_024, 65_535)
        whole("workers", self.workers, 1, 1_024)
        whole("batch_size", self.batch_size, 1, 65_536)
        if not 0 <= self.wait < self.limits.seconds:
            raise UapError(
                f"wait is {self.wait}: expected seconds, from 0 to below limits.seconds "
                f"({self.limits.seconds:g})."
            )
        if self.resize is not None:
            whole("resize", self.resize, 1)
        check_accelerator(self.accelerator)


@dataclass
class ScanConfig:
    """``python -m uap_lightning.scan``."""

    images: str = MISSING
    output: str = MISSING
    overwrite: bool = False
    known: str | None = None
    clean: bool = False
    network: Node | None = None
    size: int = MISSING
    fit: str = MISSING
    rate: float = MISSING
    seed: int = MISSING
    batch_size: int = MISSING
    searched: int | None = None
    engine: str = "local"
    num_workers: int | None = None
    accelerator: str = "auto"
    paths: CacheConfig = field(default_factory=CacheConfig)

    def __post_init__(self) -> None:
        whole("size", self.size, 64, 1_024)
        if self.searched is not None:
            whole("searched", self.searched, 2, 10**12)
        check_engine(self.engine)
        whole("seed", self.seed, 0, 2**32 - 1)
        whole("batch_size", self.batch_size, 1, 65_536)
        if self.num_workers is not None:
            whole("num_workers", self.num_workers, 1, 1_024)
        if self.fit not in FITS:
            raise UapError(f"fit is {self.fit}: expected one of {', '.join(FITS)}.")
        if not 0 < self.rate <= 0.1:
            raise UapError(
                f"rate is {self.rate}: expected a share of false alarms, above 0 and at most 0.1."
            )
        check_accelerator(self.accelerator)
