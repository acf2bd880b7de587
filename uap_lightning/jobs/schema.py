"""The typed configs of the commands, with the range of every value.

Hydra composes and types them; :func:`uap_lightning.jobs.config.typed` makes the dataclasses, whose
``__post_init__`` refuses what is out of its range. What a config builds (network, attack, ...) is
a dictionary with Hydra's ``_target_``.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball, scaled_ball
from uap_lightning.results.protocols import Protocol

Node = dict[str, Any]

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda")
_LARGEST = 2**31 - 1
# Trainer's arguments that would quietly change which crops are trained or tested on.
_SHORTENING = (
    *("accumulate_grad_batches", "fast_dev_run", "overfit_batches", "limit_train_batches"),
    *("limit_val_batches", "limit_test_batches", "limit_predict_batches", "max_time"),
)


def whole(key: str, value: int, least: int, most: int = _LARGEST) -> None:
    """Refuse a number outside of ``least`` to ``most``.

    Raises:
        UapError: it is.
    """
    if value < least:
        raise UapError(f"{key} is {value}: expected at least {least}.")
    if value > most:
        raise UapError(f"{key} is {value}: expected at most {most}.")


def share(key: str, value: float) -> None:
    """Refuse what is no share between 0 and 1, both included.

    Raises:
        UapError: it is none.
    """
    if not 0 <= value <= 1:
        raise UapError(f"{key} is {value}: expected a number between 0 and 1.")


@dataclass
class NormConfig:
    """The ball that perturbations live in."""

    name: str = MISSING
    p: float = MISSING
    eps: float = MISSING
    reference_size: int | None = None

    def __post_init__(self) -> None:
        Ball(self.p, self.eps)

    def ball(self, size: int) -> Ball:
        """The ball for images of side ``size``."""
        return scaled_ball(self.p, self.eps, self.reference_size, size)


@dataclass
class ProtocolConfig:
    """A test protocol."""

    correct_only: bool = MISSING
    perturbed_share: float = MISSING

    def __post_init__(self) -> None:
        self.protocol()

    def protocol(self) -> Protocol:
        """The protocol as the metrics take it."""
        return Protocol(self.correct_only, self.perturbed_share)


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

    def __post_init__(self) -> None:
        for key in ("train", "test", "attempts"):
            whole(f"bank.{key}", getattr(self, key), 1, 1_000_000)
        whole("bank.extended", self.extended, 1, 1_000_000)
        if self.extended < self.train:
            raise UapError(
                f"bank.extended is {self.extended}: expected at least bank.train ({self.train}), "
                "because the extended set holds the crafted perturbations too."
            )
        share("bank.min_fooling_ratio", self.min_fooling_ratio)
        share("bank.max_cosine", self.max_cosine)


@dataclass
class LossConfig:
    """Weights of the two terms of the training loss."""

    cross_entropy: float = MISSING
    reconstruction: float = MISSING

    def __post_init__(self) -> None:
        weights = (self.cross_entropy, self.reconstruction)
        if not min(weights) >= 0 or not 0 < sum(weights) < float("inf"):
            raise UapError(
                f"rectifier.training.loss has cross_entropy {self.cross_entropy} and "
                f"reconstruction {self.reconstruction}: expected weights of at least 0, and one "
                "above 0."
            )


@dataclass
class TrainingConfig:
    """How a rectifier is trained: loss, optimiser, and what the Trainer is told of both."""

    loss: LossConfig = MISSING
    optimizer: Node = MISSING
    scheduler: Node | None = None
    batch_size: int = MISSING
    epochs: int = MISSING
    steps: int = MISSING
    precision: str = MISSING
    gradient_clip: float | None = None
    perturbed_share: float = MISSING
    vary: bool = MISSING

    def __post_init__(self) -> None:
        whole("rectifier.training.batch_size", self.batch_size, 1)
        for key in ("epochs", "steps"):
            whole(f"rectifier.training.{key}", getattr(self, key), -1)
        if sorted([self.epochs > 0, self.steps > 0]) != [False, True]:
            raise UapError(
                f"rectifier.training.epochs is {self.epochs} and rectifier.training.steps is "
                f"{self.steps}: expected one of them to be at least 1 and the other -1."
            )
        if self.precision not in PRECISIONS:
            raise UapError(
                f"rectifier.training.precision is {self.precision}: expected one of "
                f"{', '.join(PRECISIONS)}."
            )
        if not 0 < self.perturbed_share <= 1:
            raise UapError(
                f"rectifier.training.perturbed_share is {self.perturbed_share}: expected a "
                "probability above 0 and at most 1, such as the paper's 0.5."
            )
        rate = self.optimizer.get("lr", 1.0)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1e6:
            raise UapError(
                f"rectifier.training.optimizer.lr is {rate}: expected a number above 0, such as "
                "0.001."
            )
        if self.gradient_clip is not None and not 0 < self.gradient_clip < float("inf"):
            raise UapError(
                f"rectifier.training.gradient_clip is {self.gradient_clip}: expected a number "
                "above 0, or null for none."
            )


@dataclass
class RectifierConfig:
    """A rectifier and how it is trained; a filter without parameters is not."""

    name: str = MISSING
    model: Node = MISSING
    training: TrainingConfig | None = MISSING


@dataclass
class DetectorConfig:
    """A detector and the sample it is fitted on."""

    name: str = MISSING
    model: Node = MISSING
    max_images: int = MISSING
    perturbed_share: float = MISSING

    def __post_init__(self) -> None:
        whole("detector.max_images", self.max_images, 2)
        if not 0 < self.perturbed_share < 1:
            raise UapError(
                f"detector.perturbed_share is {self.perturbed_share}: expected a probability "
                "between 0 and 1, because the detector learns from both kinds of image."
            )


@dataclass
class PathsConfig:
    """Where files go."""

    output_dir: str | None = MISSING  # None while a config is printed
    bank_dir: str = MISSING
    cache_dir: str = MISSING


@dataclass
class CacheConfig:
    """Where converted weights are kept."""

    cache_dir: str = MISSING


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
        self.ball()

    def ball(self) -> Ball:
        """The ball at the size of the crops."""
        return self.norm.ball(int(self.data["crop"]))


@dataclass
class MeasureConfig(CraftConfig):
    """What training and evaluation share: both end in a test."""

    protocol: dict[str, ProtocolConfig] = MISSING
    trainer: Node = MISSING
    callbacks: Node = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.protocol:
            raise UapError("protocol is empty: expected at least one, such as protocol=[a].")
        for key in _SHORTENING:
            if self.trainer.get(key) is not None:
                raise UapError(
                    f"trainer.{key} is {self.trainer[key]}: expected it to be left out, because "
                    "batches, draws and results would not be those that are reported; set "
                    "rectifier.training.batch_size or rectifier.training.steps instead."
                )


@dataclass
class TrainConfig(MeasureConfig):
    """``python -m uap_lightning.train``."""

    rectifier: RectifierConfig = MISSING
    detector: DetectorConfig = MISSING
    ckpt_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        strategy = self.trainer.get("strategy", "auto")
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
    num_workers: int | None = None
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        whole("batch_size", self.batch_size, 1, 65_536)
        if self.num_workers is not None:
            whole("num_workers", self.num_workers, 1, 1_024)
        check_accelerator(self.accelerator)


def check_accelerator(accelerator: str) -> None:
    """Refuse what is no accelerator of ours.

    Raises:
        UapError: it is none.
    """
    if accelerator not in ACCELERATORS:
        raise UapError(f"accelerator is {accelerator}: expected one of {', '.join(ACCELERATORS)}.")
