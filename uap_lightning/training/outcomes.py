"""What becomes of each test image, and how that is gathered over batches and processes."""

from dataclasses import fields

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from uap_lightning.guard.guard import Guard
from uap_lightning.results.metrics import Outcomes

# As many parts are joined. Many small tensors among large ones that come and go would leave holes
# in memory that no large one fits into.
_MOST = 16


@torch.no_grad()
def outcomes(
    guard: Guard,
    images: Tensor,
    rho: Tensor,
    *,
    photograph: Tensor,
    perturbation: Tensor,
    label: Tensor,
    coin: Tensor,
) -> Outcomes:
    """Everything the metrics need to know of a batch of test images.

    Args:
        guard: the defence.
        images: clean, float N x 3 x H x W, 0-255.
        rho: the perturbation drawn for each, N x 3 x H x W.
        photograph: that each crop is from, N.
        perturbation: the number of the one drawn for each, N.
        label: class it is counted against, N.
        coin: uniform draw of each, N.
    """
    perturbed = (images + rho).clamp(0, 255)
    rectified_clean, score_clean = guard.rectify(images)
    rectified_perturbed, score_perturbed = guard.rectify(perturbed)
    return Outcomes(
        photograph=photograph,
        perturbation=perturbation,
        label=label,
        coin=coin,
        clean=guard.network.predict(images),
        perturbed=guard.network.predict(perturbed),
        rectified_clean=guard.network.predict(rectified_clean),
        rectified_perturbed=guard.network.predict(rectified_perturbed),
        score_clean=score_clean,
        score_perturbed=score_perturbed,
    )


class DefenseMetrics(Metric):
    """Gathers :class:`Outcomes` over batches and processes."""

    def __init__(self) -> None:
        super().__init__()
        for field in fields(Outcomes):
            self.add_state(field.name, default=[], dist_reduce_fx="cat")

    def update(self, outcomes: Outcomes) -> None:
        """Add a batch."""
        for field in fields(Outcomes):
            gathered = getattr(self, field.name)
            gathered.append(getattr(outcomes, field.name))
            if len(gathered) >= _MOST:
                gathered[:] = [torch.cat(gathered)]

    def compute(self) -> dict[str, Tensor]:
        """All that was added, on the CPU: the fields of :class:`Outcomes`."""
        return {f.name: dim_zero_cat(getattr(self, f.name)).cpu() for f in fields(Outcomes)}
