"""Fit the detector on training crops, behind a trained rectifier (section 4.3)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import track
from uap_lightning.data.colours import DRAWS, recoloured
from uap_lightning.data.crops import CropDataset
from uap_lightning.detectors import Detector, calibrate, fit_detector
from uap_lightning.perturbations.sampling import PerturbationSampler


@dataclass(frozen=True)
class DetectorSample:
    """Which training images a detector is fitted on.

    Attributes:
        max_images: training images sampled for it, clean and perturbed together. The paper's
            200,000 take as long as a pass of training, and no more memory than 1,000.
        perturbed_share: share of them that is perturbed.
        batch_size: images a forward pass.
        seed: of the sample.
        false_alarms: share of the clean crops of ``held_out`` that may count as perturbed; None
            leaves the threshold that fitting finds.
        held_out: training photographs that neither rectifier nor detector is fitted on.
        harmless: share of the clean images that carry random signs (:func:`random_signed`), so
            that the detector lets these pass: the classifier bears them better than rectifying.
            Procedural perturbations that are random signs of each pixel stay perturbed ones.
        recolour: share of the images that are given other colours before they are perturbed;
            those of ``held_out`` keep theirs.
    """

    max_images: int
    perturbed_share: float
    batch_size: int
    seed: int
    false_alarms: float | None = None
    held_out: CropDataset | None = None
    harmless: float = 0.0
    recolour: float = 0.0


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
            clean = crops.take(block.tolist()).to(device).float()
            if sample.recolour:
                draws = torch.rand(len(block), DRAWS, generator=generator)
                clean = recoloured(clean, draws, sample.recolour)
            images, perturbed = plain(clean, step)
            signed = (torch.rand(len(block), generator=generator) < sample.harmless).to(device)
            signed &= ~perturbed
            if bool(signed.any()):
                images[signed] = random_signed(images[signed], generator)
            yield images, perturbed

    rectifier.eval()
    fitted = cast(Detector, detector)
    fit_detector(fitted, rectifier, batches(), sample.max_images)
    if sample.false_alarms is None:
        return
    held_out = sample.held_out
    if not held_out:
        raise UapError(
            f"detector.false_alarms is {sample.false_alarms} and no photographs are held out to "
            "set the threshold on: set data.validation_share, such as 0.1, or "
            "detector.false_alarms=null."
        )
    blocks = torch.split(torch.arange(len(held_out)), sample.batch_size)
    clean = (held_out.take(block.tolist()).to(device).float() for block in blocks)
    calibrate(fitted, rectifier, clean, sample.false_alarms)


def random_signed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images with a random sign at every value, 4 to 16 pixel units large, anew for each.

    Args:
        images: float N x 3 x H x W, 0-255.
        generator: of the draws, on the processor.
    """
    signs = torch.randint(0, 2, images.shape, generator=generator) * 2.0 - 1
    strength = 4 * 4 ** torch.rand(len(images), 1, 1, 1, generator=generator)
    return (images + (strength * signs).to(images.device)).clamp(0, 255)
