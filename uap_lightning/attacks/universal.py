"""What every universal attack takes and returns."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from torch import Tensor

from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


class Universal(NamedTuple):
    """A crafted perturbation.

    Attributes:
        rho: 3 x H x W, float32, pixel units, on the CPU.
        passes: how often the crafting images were gone through.
        drawn: settings of the attack that were left to the seed, for the record.
    """

    rho: Tensor
    passes: float
    drawn: Mapping[str, object] = MappingProxyType({})


class Attack(Protocol):
    """The shape of an attack once its settings are bound."""

    def __call__(
        self, network: TargetNetwork, images: Images, predictions: Tensor, norm: Ball, seed: int
    ) -> Universal:
        """Craft one perturbation on ``images``, whose clean predictions are ``predictions``."""
