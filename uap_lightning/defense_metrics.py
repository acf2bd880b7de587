"""The test's outcomes as a torchmetrics metric; a guard does without, and starts faster."""

from dataclasses import fields

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from uap_lightning.metrics import Outcomes


class DefenseMetrics(Metric):
    """Gathers :class:`Outcomes` over batches and processes."""

    def __init__(self) -> None:
        super().__init__()
        for field in fields(Outcomes):
            self.add_state(field.name, default=[], dist_reduce_fx="cat")

    def update(self, outcomes: Outcomes) -> None:
        """Add a batch."""
        for field in fields(Outcomes):
            getattr(self, field.name).append(getattr(outcomes, field.name))

    def compute(self) -> dict[str, Tensor]:
        """All that was added, on the CPU: the fields of :class:`Outcomes`."""
        return {f.name: dim_zero_cat(getattr(self, f.name)).cpu() for f in fields(Outcomes)}
