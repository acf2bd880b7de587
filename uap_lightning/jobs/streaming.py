"""The test set as a stream: the mixed images, one after another, through the guard with memory."""

import logging

import numpy as np
import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import track
from uap_lightning.data import Collection
from uap_lightning.data.crops import CropDataset
from uap_lightning.guard.guard import Guard
from uap_lightning.guard.stream_guard import StreamGuard
from uap_lightning.perturbations.sampling import PairedDraw
from uap_lightning.results.metrics import Streamed, with_stream
from uap_lightning.results.row import Numbers
from uap_lightning.streams.whitening import FEWEST, MOST, SMALLEST, Whitener
from uap_lightning.training.callbacks import ComputeMetrics
from uap_lightning.training.module import RectifierModule

log = logging.getLogger(__name__)

_BATCH = 8


def fit_whitener(data: Collection) -> Whitener | None:
    """Statistics of the training photographs, a crop of each, for the guard with memory.

    None where crops are smaller than 64 pixels or photographs fewer than 12.
    """
    _, first = np.unique(data.train.photograph.numpy(), return_index=True)
    if data.crop < SMALLEST or len(first) < FEWEST:
        log.info("There are too few photographs, or too small ones, for a guard with memory.")
        return None
    chosen = first[np.linspace(0, len(first) - 1, min(MOST, len(first))).astype(int)]
    return Whitener(data.crop).fit(data.train.take(chosen.tolist()))


def check_whitener(whitener: Whitener | None) -> Whitener:
    """The statistics of photographs that the guard with memory needs.

    Raises:
        UapError: there are none.
    """
    if whitener is None:
        raise UapError(
            "stream is true and the defence has no whitener, because its images are smaller than "
            "64 x 64 or its photographs fewer than 12: set stream=false."
        )
    return whitener


def streamed(
    module: RectifierModule,
    whitener: Whitener,
    crops: CropDataset,
    draw: PairedDraw,
    metrics: ComputeMetrics,
    seed: int,
) -> dict[str, Numbers]:
    """The numbers of each protocol of a test, with those of the guard with memory beside them."""
    assert metrics.outcomes is not None
    walks: dict[float, Streamed] = {}
    found = {}
    for name, protocol in metrics.protocols.items():
        share = protocol.perturbed_share
        if share not in walks:
            walks[share] = walk(module, whitener, crops, draw, share, seed)
        numbers = metrics.rows[name]
        found[name] = with_stream(numbers, metrics.outcomes, walks[share], protocol, seed)
    return found


@torch.no_grad()
def walk(
    module: RectifierModule,
    whitener: Whitener,
    crops: CropDataset,
    draw: PairedDraw,
    perturbed_share: float,
    seed: int,
) -> Streamed:
    """Send the mixed test images, in a random order, through a guard that has seen nothing yet.

    Args:
        module: whose network, rectifier and detector the guard has.
        whitener: of the crops' size.
        crops: to test on.
        draw: the perturbation and the coin of each.
        perturbed_share: an image is perturbed where its coin is below it.
        seed: of the order.
    """
    device = module.network.mean.device
    parts = (module.network, module.rectifier.eval(), module.detector.eval())
    guard = StreamGuard(Guard(*parts), whitener.to(device))
    order = torch.randperm(len(crops), generator=torch.Generator().manual_seed(seed))
    predictions = []
    batches = torch.split(order, _BATCH)
    for chosen in track(batches, "Streaming"):
        images = crops.take(chosen.tolist()).float()
        mixed = (draw.coin[chosen] < perturbed_share)[:, None, None, None]
        perturbed = (images + draw.perturbations[draw.perturbation[chosen]]).clamp(0, 255)
        seen = guard(torch.where(mixed, perturbed, images).to(device))
        predictions.append(seen.logits.argmax(dim=1).cpu())
    return Streamed(
        torch.cat(predictions)[order.argsort()], met_before(draw, perturbed_share, order)
    )


def met_before(draw: PairedDraw, perturbed_share: float, order: Tensor) -> Tensor:
    """For each image, how many came before it with the perturbation that the fewest had: N."""
    carries = draw.coin < perturbed_share
    kinds = torch.arange(len(draw.perturbations))[:, None]
    each = (carries & (draw.perturbation == kinds))[:, order].long()
    before = each.cumsum(dim=1) - each
    return before.amin(dim=0)[order.argsort()]
