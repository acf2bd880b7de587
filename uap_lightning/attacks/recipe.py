"""All that decides a bank's perturbations."""

from dataclasses import dataclass

from uap_lightning.attacks.universal import Attack
from uap_lightning.core.storage import digest_of
from uap_lightning.data.crops import CropDataset
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import Bounds, norm_name


@dataclass(frozen=True)
class Recipe:
    """All that decides a bank's perturbations.

    Attributes:
        network: the network to fool.
        norm: the ball.
        attack: with its settings bound.
        settings: of the attack, for records, as ``registry.recorded`` gives them.
        bounds: that every perturbation keeps.
        craft: crafting images, with the network's predictions.
        unseen: images to measure on that crafting has not seen; None without any.
        photographs: identities of the photographs that the crafting images come from.
        seed: of the bank.
    """

    network: TargetNetwork
    norm: Ball
    attack: Attack
    settings: dict[str, object]
    bounds: Bounds
    craft: CropDataset
    unseen: CropDataset | None
    photographs: tuple[str, ...]
    seed: int

    def description(self) -> dict[str, object]:
        """The recipe as JSON; its digest is the bank's identity."""
        return {
            "network": self.network.name,
            "weights": self.network.digest,
            "p": norm_name(self.norm),
            "eps": self.norm.eps,
            "size": self.craft.size,
            "attack": self.settings,
            "min_fooling_ratio": self.bounds.min_fooling_ratio,
            "max_cosine": self.bounds.max_cosine,
            "data": digest_of(self.craft.description()),
            "seed": self.seed,
            "photographs": sorted(self.photographs),
        }
