"""The bar shows the loss that was looked at last; no step waits for the device on its account."""

import traceback
from collections import Counter
from functools import partial

import torch
from pytorch_lightning import Trainer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from tests.tiny import photographs
from uap_lightning.detectors import DctSvm
from uap_lightning.networks.tiny import tiny
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.training.module import RectifierModule
from uap_lightning.training.progress import Progress
from uap_lightning.training.watching import LOOK, LossWatch, WatchTraining


class Fetches(TorchDispatchMode):
    """Counts numbers that are fetched from a tensor, by the file that asks for them."""

    def __init__(self):
        super().__init__()
        self.asked = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            stack = [frame.filename for frame in traceback.extract_stack()]
            for name in ("logger_connector", "training/module", "rich_progress"):
                self.asked[name] += any(name in file for file in stack)
        return func(*args, **(kwargs or {}))


def test_no_step_fetches_its_loss_and_the_bar_shows_the_one_looked_at_last():
    module = RectifierModule(
        tiny(),
        ResidualPRN(8, 2),
        DctSvm(32),
        {},
        reconstruction=1.0,
        matching=1.0,
        optimizer=partial(torch.optim.SGD, lr=0.01),
    )
    steps, seen, shown = 30, [], []
    watch = WatchTraining(LossWatch(steps, unit=2.0))

    class Noting(Progress):
        def get_metrics(self, trainer, pl_module):
            metrics = super().get_metrics(trainer, pl_module)
            shown.append(metrics.get("train/loss"))
            return metrics

    clean = photographs(32, 4).take(range(4)).float()
    batch = {"image": clean, "input": clean + 3, "prediction": torch.zeros(4, dtype=torch.long)}
    original = module.training_step

    def training_step(*given):
        loss = original(*given)
        seen.append(loss.detach())
        return loss

    module.training_step = training_step
    trainer = Trainer(
        max_steps=steps, logger=False, enable_checkpointing=False, callbacks=[watch, Noting()]
    )
    with Fetches() as fetches:
        trainer.fit(module, DataLoader([batch] * steps, batch_size=None))
    assert sum(fetches.asked.values()) == 0
    losses = [float(loss) for loss in seen]
    assert len(set(losses)) > steps / 2
    known = [losses[0], *(losses[step - 1] for step in range(LOOK, steps + 1, LOOK))]
    assert [value for value in dict.fromkeys(shown) if value is not None] == known
