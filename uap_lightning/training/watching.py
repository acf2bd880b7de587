"""Stops a training that fails: a loss that is no number, explodes or does not fall."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import CropDataset
from uap_lightning.data.module import TrainingDataModule
from uap_lightning.training.module import RectifierModule

EXPLODED = 100
LEAST = 100  # steps below which nothing is asked of a loss but to be a number and not to explode
WINDOW = 50
WINDOWS = 20
LOOK = 10  # steps between two looks: each waits for the device
SAMPLE = 64

# How the reasons begin that a training is stopped for here.
STOPPED = ("the training loss ", "training is at chance ")
_MEND = (
    "lower rectifier.training.optimizer.lr, set rectifier.training.gradient_clip=1, or choose "
    "another rectifier, and run it again with overwrite=true."
)


@dataclass
class LossWatch:
    """Follows the loss of each step and refuses a training that fails.

    - A loss that is NaN or infinite is refused in its step.
    - A loss above 100 times its start has exploded. Its start is that of step 1, or ``unit``
      where that is more, for a first batch may hold no perturbed image. In units that is a
      cross-entropy of 100 nats, an error of 1,000 pixel values or early layers that see 100 times
      what they see in photographs, beyond any image's: noise does not come there.
    - Trainings of at least 100 steps that begin from nothing are cut into windows of a twentieth,
      at most 50 steps. One that begins with a trained rectifier may only keep what it has. When
      half of the steps are done, one window at least must have a smaller mean loss than the first
      one; else the loss never fell below its start.

    The last rule compares the first window with k >= 9 others (19 from 2,000 steps on). Where the
    loss neither falls nor rises, all orders of their means are as likely, whatever the noise: the
    first is the least in one of k + 1 trainings, so even of those that learn nothing a tenth at
    most is refused. Where it falls by d, and a step's loss has the deviation s, the means of n
    steps deviate by s / sqrt(n), and a refusal needs the first to lie d too low against each of
    the k others: by each one, for normal noise, Phi(-d sqrt(n / 2) / s). Batches of 4 have s of
    about 40 % of the loss: a fall by 30 % is missed with a probability below 1e-4 for n = 50. A
    loss that rises is refused the more surely the more it does.

    Attributes:
        steps: of the whole training.
        unit: weights of the loss's terms together: the loss at one nat, ten pixel values and one
            deviation of the early layers' maps.
        falls: whether the last rule holds.
        seen: steps so far.
        first: loss of step 1.
        start: mean loss of the first window.
        least: least mean loss of a later window.
        total: summed loss of the window at hand.
    """

    steps: int
    unit: float
    falls: bool = True
    seen: int = 0
    first: float = 0.0
    start: float = 0.0
    least: float = math.inf
    total: float = 0.0

    @property
    def window(self) -> int:
        """Steps of a window."""
        return min(WINDOW, self.steps // WINDOWS)

    @property
    def half(self) -> int:
        """The step after which the loss must have fallen; 0 where it need not."""
        asked = self.falls and self.steps >= LEAST
        return self.steps // 2 // self.window * self.window if asked else 0

    def see(self, loss: float) -> None:
        """Take the loss of the next step.

        Raises:
            UapError: the training fails, by one of the three rules.
        """
        self.seen += 1
        where = f"in step {self.seen} of {self.steps}"
        if not math.isfinite(loss):
            raise UapError(f"the training loss is {loss} {where}: expected a number; {_MEND}")
        if self.seen == 1:
            self.first = loss
        start = max(self.first, self.unit)
        if loss > EXPLODED * start:
            raise UapError(
                f"the training loss exploded to {loss:.4g} {where}: expected at most {EXPLODED} "
                f"times its start ({start:.4g}); {_MEND}"
            )
        if not self.half:
            return
        self.total += loss
        if self.seen % self.window == 0:
            mean, self.total = self.total / self.window, 0.0
            if self.seen == self.window:
                self.start = mean
            else:
                self.least = min(self.least, mean)
        if self.seen == self.half and self.least >= self.start:
            raise UapError(
                f"the training loss has not fallen {where}: expected a mean of {self.window} steps "
                f"below that of the first ({self.start:.4g}) and found {self.least:.4g} at least; "
                f"{_MEND}"
            )


@torch.no_grad()
def check_learnt(module: RectifierModule, crops: CropDataset, step: int, steps: int) -> None:
    """Refuse a rectifier behind which the network knows nothing of a clean image.

    A network whose activations are bounded, as by batch or response normalisation, sees a
    rectifier that diverges as noise: its loss then stays where it is at chance, and need not rise.
    Asked is that the network names clean crops as it does without the rectifier: more of them than
    the most frequent class has, which an answer that ignores the image gets, or a half. Of 64
    crops a rectifier that works loses few, so that it is not refused.

    Args:
        module: with the rectifier.
        crops: training crops with the network's predictions.
        step: that training is at.
        steps: of the whole training.

    Raises:
        UapError: it names no more of them.
    """
    numbers = torch.linspace(0, len(crops) - 1, min(SAMPLE, len(crops))).long()
    expected = crops.prediction[numbers]
    training = module.rectifier.training
    module.rectifier.eval()
    kept = 0
    for block in torch.split(numbers, 8):
        rectified = module.rectifier(crops.take(block.tolist()).to(module.device).float())
        found = module.network.predict(rectified).cpu()
        kept += int((found == crops.prediction[block]).sum())
    module.rectifier.train(training)
    commonest = int(expected.bincount().max())
    if kept <= min(commonest, len(numbers) // 2):
        raise UapError(
            f"training is at chance in step {step} of {steps}: behind the rectifier the network "
            f"names {kept} of {len(numbers)} clean training crops as it does without, expected "
            f"more than {commonest}, which one class for all would get; {_MEND}"
        )


class WatchTraining(Callback):
    """Hands the losses to a :class:`LossWatch`, and keeps weights that are no numbers from files.

    Losses are gathered on the device and looked at in step 1, in every tenth, and before a
    checkpoint is written. All processes see the mean over them and stop together.

    Args:
        watch: is part of the checkpoint, so that a training that goes on decides the same.

    Attributes:
        latest: the loss that was looked at last.
    """

    def __init__(self, watch: LossWatch) -> None:
        self.watch = watch
        self.latest: float | None = None
        self._waiting: list[Tensor] = []

    def on_train_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, Tensor],
        batch: object,
        batch_idx: int,
    ) -> None:
        """Keep the loss of the step, and look at times."""
        self._waiting.append(outputs["loss"].detach().float())
        step = trainer.global_step
        if step == 1 or step % LOOK == 0 or step in (self.watch.half, self.watch.steps):
            self._look(trainer)
        if step == self.watch.half:
            data = cast(TrainingDataModule, trainer.datamodule)  # type: ignore[attr-defined]
            check_learnt(cast(RectifierModule, pl_module), data.crops, step, self.watch.steps)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last step's weights are used without a loss of theirs."""
        _check_finite(pl_module.state_dict(), trainer.global_step, self.watch.steps)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse a checkpoint that no training can go on from; put the watch into others.

        Not by ``state_dict``: only here are the losses of all processes at hand.
        """
        self._look(trainer)
        _check_finite(checkpoint["state_dict"], trainer.global_step, self.watch.steps)
        checkpoint["callbacks"][self.state_key] = asdict(self.watch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.watch = LossWatch(**{**state_dict, "falls": self.watch.falls})

    def _look(self, trainer: Trainer) -> None:
        if self._waiting:
            losses = trainer.strategy.reduce(torch.stack(self._waiting), reduce_op="mean")
            self._waiting = []
            for loss in cast(Tensor, losses).tolist():
                self.watch.see(loss)
                self.latest = loss


def _check_finite(state: Mapping[str, Tensor], step: int, steps: int) -> None:
    for key, tensor in state.items():
        if key.startswith("rectifier.") and not bool(tensor.isfinite().all()):
            raise UapError(
                f"the rectifier's {key.removeprefix('rectifier.')} is not finite after step {step} "
                f"of {steps}: expected numbers; {_MEND}"
            )
