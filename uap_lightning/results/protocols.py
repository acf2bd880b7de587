"""Protocols A and B of the paper (section 5)."""

from dataclasses import dataclass

from uap_lightning.core.errors import UapError


@dataclass(frozen=True)
class Protocol:
    """Which test images count, and how many of them are perturbed.

    Attributes:
        correct_only: only images that the target network classifies correctly when clean
            (protocol B), or all of them (protocol A).
        perturbed_share: probability that a test image is perturbed.
    """

    correct_only: bool
    perturbed_share: float

    def __post_init__(self) -> None:
        if not 0 < self.perturbed_share < 1:
            raise UapError(
                f"protocol perturbed_share is {self.perturbed_share}: expected a probability "
                "between 0 and 1, such as the paper's 0.5."
            )
