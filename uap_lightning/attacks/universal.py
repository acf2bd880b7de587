"""What every universal attack returns and checks."""

from typing import NamedTuple, Protocol

from torch import Tensor

from uap_lightning.data.crops import Images
from uap_lightning.errors import UapError
from uap_lightning.networks import TargetNetwork
from uap_lightning.norms import LpNorm


class Universal(NamedTuple):
    """A crafted perturbation.

    Attributes:
        rho: 3 x H x W, float32, pixel units, on the CPU.
        passes: how often the crafting images were gone through.
    """

    rho: Tensor
    passes: float


class Attack(Protocol):
    """The shape of an attack once its settings are bound."""

    def __call__(
        self, network: TargetNetwork, images: Images, labels: Tensor, norm: LpNorm, seed: int
    ) -> Universal:
        """Craft one perturbation on ``images``, whose clean predictions are ``labels``."""


def check_goal(goal: float) -> None:
    """Refuse a fooling ratio that is no share.

    Raises:
        UapError: outside (0, 1].
    """
    if not 0 < goal <= 1:
        raise UapError(
            f"the fooling ratio asked for is {goal}: expected a share above 0 and at most 1."
        )
