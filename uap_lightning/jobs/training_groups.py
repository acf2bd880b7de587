"""The typed configs of a rectifier, its training and its loss, with the range of every value."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from uap_lightning.core.errors import UapError
from uap_lightning.jobs.groups import PRECISIONS, Node, share, whole


@dataclass
class LossConfig:
    """Weights of the terms of the loss, and the networks that are asked beside the target."""

    cross_entropy: float = MISSING
    reconstruction: float = MISSING
    matching: float = 0.0
    matching_from: float = 0.0
    features: float = 0.0
    matched_networks: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        # The first half of the losses are compared with one another, so they are of one sum.
        late = self.matching_from != 0
        if late and not 0.5 <= self.matching_from < 1:
            raise UapError(
                f"rectifier.training.loss.matching_from is {self.matching_from}: expected 0, or "
                "the share of the steps before answers are matched, from 0.5 to below 1."
            )
        if late and not (self.matching > 0 and self.total() > self.matching):
            raise UapError(
                f"rectifier.training.loss.matching_from is {self.matching_from}, cross_entropy "
                f"{self.cross_entropy}, reconstruction {self.reconstruction}, features "
                f"{self.features} and matching {self.matching}: expected one of the first three "
                "and matching above 0, because matching joins what is there before it."
            )
        if not all("_target_" in node for node in self.matched_networks):
            raise UapError(
                "rectifier.training.loss.matched_networks has an entry without _target_: expected "
                "what a file in conf/network says, such as {_target_: ..., variant: 1}."
            )
        if self.matched_networks and not self.matching and not self.features:
            raise UapError(
                f"rectifier.training.loss.matched_networks names {len(self.matched_networks)} and "
                "matching and features are 0: expected a weight above 0; without one they are not "
                "asked."
            )
        weights = (self.cross_entropy, self.reconstruction, self.matching, self.features)
        if not min(weights) >= 0 or not 0 < sum(weights) < float("inf"):
            raise UapError(
                f"rectifier.training.loss has cross_entropy {self.cross_entropy}, reconstruction "
                f"{self.reconstruction}, matching {self.matching} and features {self.features}: "
                "expected weights of at least 0, and one above 0."
            )

    def total(self) -> float:
        """Sum of the weights."""
        return self.cross_entropy + self.reconstruction + self.matching + self.features


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
    compile: bool = False
    perturbed_share: float = MISSING
    vary: bool = MISSING
    strengths: list[float] | None = None
    recolour: float = 0.0
    validate_every: int | None = None
    keep: str = "last"
    start: str | None = None
    teacher: str | None = None
    distillation: float = 0.5

    def __post_init__(self) -> None:
        whole("rectifier.training.batch_size", self.batch_size, 1)
        for key in ("epochs", "steps"):
            whole(f"rectifier.training.{key}", getattr(self, key), -1)
        if sorted([self.epochs > 0, self.steps > 0]) != [False, True]:
            raise UapError(
                f"rectifier.training.epochs is {self.epochs} and rectifier.training.steps is "
                f"{self.steps}: expected one of them to be at least 1 and the other -1."
            )
        if self.validate_every is not None:
            whole("rectifier.training.validate_every", self.validate_every, 1)
        if self.keep not in ("last", "best"):
            raise UapError(
                f"rectifier.training.keep is {self.keep}: expected last or best, the rectifier of "
                "the last step or that of the best point of the validation curve."
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
        strengths = self.strengths
        if strengths is not None and not (
            len(strengths) == 2 and 0 < strengths[0] <= strengths[1] < float("inf")
        ):
            raise UapError(
                f"rectifier.training.strengths is {strengths}: expected two factors above 0, the "
                "smaller one first, such as [0.4,2.5], or null for perturbations as they are."
            )
        share("rectifier.training.recolour", self.recolour)
        if not 0 < self.distillation <= 1:
            raise UapError(
                f"rectifier.training.distillation is {self.distillation}: expected a number above "
                "0 (the clean image) and at most 1 (the teacher's image); for the clean image "
                "alone set rectifier.training.teacher=null."
            )
        if self.teacher is not None and self.loss.total() == self.loss.cross_entropy:
            raise UapError(
                f"rectifier.training.teacher is {self.teacher} and loss has cross_entropy alone, "
                "which asks for a class and for no image: expected reconstruction, features or "
                "matching above 0, or teacher=null."
            )
        if self.recolour and self.loss.cross_entropy:
            raise UapError(
                f"rectifier.training.recolour is {self.recolour} and loss.cross_entropy "
                f"{self.loss.cross_entropy}: expected one of them to be 0, because the class that "
                "it asks for is that of the photograph in its own colours."
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
