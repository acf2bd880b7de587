"""Callbacks: fit the detector, compute the metrics, draw the panel. Each calls a function."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from rich.progress import TaskID
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from uap_lightning.core.storage import write_atomically
from uap_lightning.core.terminal import progress_bar, track
from uap_lightning.data import PhotographDataModule
from uap_lightning.data.imagenet_classes import class_names
from uap_lightning.detectors import Detector, fit_detector
from uap_lightning.perturbations.sampling import PerturbationSampler
from uap_lightning.results.metrics import Outcomes, summarise
from uap_lightning.results.protocols import Protocol
from uap_lightning.results.row import Numbers
from uap_lightning.training.module import RectifierModule
from uap_lightning.training.outcomes import DefenseMetrics
from uap_lightning.training.panel import draw_panel


class TrainingProgress(Callback):
    """One bar for all steps of training, and one for testing, as crafting has."""

    def __init__(self) -> None:
        self._bar = progress_bar()
        self._task = TaskID(0)

    def _start(self, title: str, total: float, done: int = 0) -> None:
        self._bar = progress_bar()
        self._task = self._bar.add_task(title, total=total, completed=done)
        self._bar.start()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where training begins, which is not 0 after an interruption."""
        total = trainer.estimated_stepping_batches
        self._start("Training the rectifier", total, trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
        """Advance by a step and show the loss."""
        loss = float(trainer.callback_metrics.get("train/loss", 0.0))
        title = f"Training the rectifier, loss {loss:.3f}"
        self._bar.update(self._task, completed=trainer.global_step, description=title)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._bar.stop()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar of test batches."""
        self._start("Testing the defence", sum(trainer.num_test_batches))

    def on_test_batch_end(self, *args: object) -> None:
        """Advance by a batch."""
        self._bar.advance(self._task)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._bar.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._bar.stop()


class FitDetector(Callback):
    """Fits the detector on training crops when the rectifier is trained.

    Args:
        max_images: training images sampled for it, clean and perturbed together. At the paper's
            size all 200,000 would need 40 GB of features: a sample keeps it within memory.
        perturbed_share: share of them that is perturbed.
        seed: of the sample.
    """

    def __init__(self, max_images: int, perturbed_share: float, seed: int) -> None:
        self.max_images = max_images
        self.perturbed_share = perturbed_share
        self.seed = seed

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample, rectify, fit."""
        module = cast(RectifierModule, pl_module)
        data = cast(PhotographDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        training = cast(PerturbationSampler, data.perturb)
        # Relatives may be weakened, which would draw the boundary towards clean images.
        sampler = replace(training, share=self.perturbed_share, vary=False, seed=self.seed + 1)
        module.rectifier.eval()
        detector = module.detector
        if trainer.is_global_zero:
            batches = self._batches(data, sampler, module.device)
            fit_detector(cast(Detector, detector), module.rectifier, batches)
        # The other processes wait for the first one's.
        detector.load_state_dict(trainer.strategy.broadcast(detector.state_dict()))

    def _batches(
        self, data: PhotographDataModule, sampler: PerturbationSampler, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Random training crops, seen again under other perturbations where they are few."""
        generator = torch.Generator().manual_seed(self.seed)
        numbers = torch.randint(len(data.train), (self.max_images,), generator=generator)
        blocks = torch.split(numbers, data.batch_size)
        for step, block in enumerate(track(blocks, "Fitting the detector")):
            images = data.train.take(block.tolist()).to(device).float()
            yield sampler(images, step)


class ComputeMetrics(Callback):
    """Computes one result row for each protocol on the test crops.

    Args:
        protocols: name to the fields of :class:`~uap_lightning.results.protocols.Protocol`.
        seed: of the bootstrap.

    Attributes:
        rows: filled by a test run: protocol name to the numbers of its row.
    """

    def __init__(self, protocols: Mapping[str, Mapping[str, Any]], seed: int) -> None:
        self.protocols = {name: Protocol(**values) for name, values in protocols.items()}
        self.seed = seed
        self.rows: dict[str, Numbers] = {}
        self._metrics = DefenseMetrics()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from nothing."""
        self._metrics = DefenseMetrics().to(pl_module.device)

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

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Summarise each protocol and log its numbers as ``test/PROTOCOL/METRIC``."""
        outcomes = Outcomes(**self._metrics.compute())
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
    """

    def __init__(self, path: str, rows: int) -> None:
        self.path = Path(path)
        self.rows = rows

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the panel, write it, and hand it to every logger that takes images."""
        module = cast(RectifierModule, pl_module)
        data = cast(PhotographDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        if not trainer.is_global_zero or data.draw is None:
            return
        numbers = list(range(0, len(data.test), data.test_crops))[: self.rows]
        images = data.test.take(numbers).to(module.device).float()
        rho = data.draw.perturbations[data.draw.perturbation[numbers]].to(module.device)
        count = module.network.classes(data.crop)
        panel = draw_panel(module.guard(), images, rho, class_names(count))
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
