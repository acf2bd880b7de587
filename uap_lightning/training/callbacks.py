"""Callbacks: fit the detector, compute the metrics, draw the panel. Each calls a function."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import cast

from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically
from uap_lightning.data.imagenet_classes import class_names
from uap_lightning.data.module import EvaluationDataModule, TrainingDataModule
from uap_lightning.perturbations.sampling import PerturbationSampler
from uap_lightning.results.metrics import Outcomes, summarise
from uap_lightning.results.protocols import Protocol
from uap_lightning.results.row import Numbers
from uap_lightning.training.fitting import DetectorSample, fit_on_crops
from uap_lightning.training.kept import KeptOutcomes
from uap_lightning.training.module import RectifierModule
from uap_lightning.training.outcomes import DefenseMetrics
from uap_lightning.training.panel import draw_panel


class FitDetector(Callback):
    """Fits the detector on training crops once the rectifier is trained.

    Args:
        sample: of the training crops.
    """

    def __init__(self, sample: DetectorSample) -> None:
        self.sample = sample

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit in the first process; the others wait for what it found."""
        module = cast(RectifierModule, pl_module)
        data = cast(TrainingDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            sampler = cast(PerturbationSampler, data.perturb)
            device, detector = module.device, module.detector
            fit_on_crops(detector, module.rectifier, data.crops, sampler, self.sample, device)
        found = trainer.strategy.broadcast(module.detector.state_dict())
        module.detector.load_state_dict(found)


class ComputeMetrics(Callback):
    """Computes one result row for each protocol on the test crops.

    Args:
        protocols: by name.
        seed: of the bootstrap.

    Attributes:
        outcomes: filled by a test run: what became of each test image.
        rows: likewise: protocol name to the numbers of its row.
    """

    def __init__(self, protocols: Mapping[str, Protocol], seed: int) -> None:
        self.protocols = dict(protocols)
        self.seed = seed
        self.outcomes: Outcomes | None = None
        self.rows: dict[str, Numbers] = {}
        self._metrics = DefenseMetrics()
        self._kept: KeptOutcomes | None = None
        self._before: Outcomes | None = None

    def keep(self, kept: KeptOutcomes, most: int) -> int:
        """Go on from what an interrupted test left, and leave the same; returns its images.

        Args:
            kept: where it is.
            most: images to take from there; some must be left to test.
        """
        self._kept, self._before = kept, kept.read(most)
        return 0 if self._before is None else len(self._before.label)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from what is kept, or from nothing."""
        metrics = DefenseMetrics()
        if self._before is not None:
            metrics.update(self._before)
        self._metrics = metrics.to(pl_module.device)

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: dict[str, Tensor],
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add what became of a batch."""
        self._metrics.update(Outcomes(**outputs))
        if self._kept is not None and self._kept.due:
            self._kept.write(Outcomes(**self._metrics.compute()))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Summarise each protocol and log its numbers as ``test/PROTOCOL/METRIC``."""
        outcomes = self.outcomes = Outcomes(**self._metrics.compute())
        self.rows = {
            name: summarise(outcomes, protocol, self.seed)
            for name, protocol in self.protocols.items()
        }
        for name, row in self.rows.items():
            for metric, value in vars(row).items():
                if isinstance(value, float):
                    pl_module.log(f"test/{name}/{metric}", value, sync_dist=True)


class Panel(Callback):
    """Draws the first test photographs as the paper's Figure 4.

    Args:
        path: PNG file.
        rows: photographs shown.

    Raises:
        UapError: ``rows`` is out of its range.
    """

    def __init__(self, path: str, rows: int) -> None:
        if not 1 <= rows <= 100:
            raise UapError(f"callbacks.panel.rows is {rows}: expected 1 to 100.")
        self.path = Path(path)
        self.rows = rows

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the panel, write it, and hand it to every logger that takes images."""
        if not trainer.is_global_zero:
            return
        module = cast(RectifierModule, pl_module)
        data = cast(EvaluationDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        # The crops of a photograph follow one another: the first of each.
        photograph = data.crops.photograph.tolist()
        first = [n for n, p in enumerate(photograph) if n == 0 or p != photograph[n - 1]]
        numbers = first[: self.rows]
        images = data.crops.take(numbers).to(module.device).float()
        rho = data.draw.perturbations[data.draw.perturbation[numbers]].to(module.device)
        names = class_names(module.network.classes(data.crops.size))
        panel = draw_panel(module.guard(), images, rho, names)
        content = BytesIO()
        panel.save(content, format="PNG")
        write_atomically(self.path, content.getvalue())
        _send(trainer, panel)


def _send(trainer: Trainer, panel: Image.Image) -> None:
    for logger in trainer.loggers:
        log_image = getattr(logger, "log_image", None)
        if log_image is not None:
            log_image("test/panel", [panel])
        elif isinstance(logger, TensorBoardLogger):
            pixels = pil_to_tensor(panel)
            logger.experiment.add_image("test/panel", pixels, trainer.global_step)
