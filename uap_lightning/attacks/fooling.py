"""How often a perturbation changes what the network says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uap_lightning.attacks.reading import read_ahead
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork


@dataclass(frozen=True)
class Chosen:
    """Some of the images, numbered anew."""

    images: Images
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, numbers: Sequence[int]) -> Tensor:
        """Those with these new numbers."""
        return self.images.take([self.numbers[number] for number in numbers])


def batches(images: Images, size: int, device: torch.device) -> Iterator[Tensor]:
    """The images in order, as float batches 0-255 on the device; two batches in memory at most."""
    numbers = [
        range(start, min(start + size, len(images))) for start in range(0, len(images), size)
    ]
    return read_ahead(images, numbers, device)


def clean_predictions(network: TargetNetwork, images: Images, batch_size: int = 64) -> Tensor:
    """The class that the network gives each clean image (int64, N, on the CPU)."""
    device = network.mean.device
    parts = [network.predict(batch).cpu() for batch in batches(images, batch_size, device)]
    return torch.cat(parts)


def fooling_ratio(
    network: TargetNetwork, images: Images, predictions: Tensor, rho: Tensor, batch_size: int = 64
) -> float:
    """Share of images whose predicted class changes under ``rho`` (delta in the papers).

    Args:
        network: the target network.
        images: what to perturb; the perturbed image is clamp(I + rho, 0, 255).
        predictions: the network's own predictions on the clean images, N.
        rho: the perturbation, 3 x H x W, in pixel units.
        batch_size: images a forward pass.

    Returns:
        between 0 and 1.
    """
    device = network.mean.device
    rho = rho.to(device)
    predicted = torch.cat(
        [
            network.predict((batch + rho).clamp(0, 255)).cpu()
            for batch in batches(images, batch_size, device)
        ]
    )
    return float((predicted != predictions).double().mean())
