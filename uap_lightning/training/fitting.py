"""Fit the detector on training crops, behind a trained rectifier (section 4.3)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from uap_lightning.core.terminal import track
from uap_lightning.data.crops import CropDataset
from uap_lightning.detectors import Detector, fit_detector
from uap_lightning.perturbations.sampling import PerturbationSampler


@dataclass(frozen=True)
class DetectorSample:
    """Which training images a detector is fitted on.

    Attributes:
        max_images: training images sampled for it, clean and perturbed together. At the paper's
            size all 200,000 would need 40 GB of features: a sample keeps it within memory.
        perturbed_share: share of them that is perturbed.
        batch_size: images a forward pass.
        seed: of the sample.
    """

    max_images: int
    perturbed_share: float
    batch_size: int
    seed: int


def fit_on_crops(
    detector: nn.Module,
    rectifier: nn.Module,
    crops: CropDataset,
    sampler: PerturbationSampler,
    sample: DetectorSample,
    device: torch.device,
) -> None:
    """Fit a detector on random training crops, seen again under others where they are few.

    Args:
        detector: fitted in place.
        rectifier: trained; put in evaluation mode.
        crops: training crops.
        sampler: that training perturbed with.
        sample: which crops, and how many of them perturbed.
        device: to compute on.
    """
    # Relatives may be weakened, which would draw the boundary towards clean images.
    share, seed = sample.perturbed_share, sample.seed + 1
    plain = replace(sampler, share=share, seed=seed, vary=False, strengths=None)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(sample.seed)
        numbers = torch.randint(len(crops), (sample.max_images,), generator=generator)
        blocks = torch.split(numbers, sample.batch_size)
        for step, block in enumerate(track(blocks, "Fitting the detector")):
            yield plain(crops.take(block.tolist()).to(device).float(), step)

    rectifier.eval()
    fit_detector(cast(Detector, detector), rectifier, batches())
