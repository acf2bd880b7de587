"""The progress bar of a training."""

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

from uap_lightning.training.watching import WatchTraining


class Progress(RichProgressBar):
    """Lightning's bar, with the loss that :class:`WatchTraining` looked at last.

    A loss that is logged to the bar is fetched from the device in every step, which waits for it.
    """

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What the bar shows."""
        shown = super().get_metrics(trainer, pl_module)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WatchTraining) and callback.latest is not None:
                shown["train/loss"] = callback.latest
        return shown
