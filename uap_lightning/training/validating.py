"""The validation curve: photographs of the training side that are not trained on."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import CropDataset
from uap_lightning.data.module import TrainingDataModule
from uap_lightning.perturbations.sampling import PerturbationSampler, draw_pairs
from uap_lightning.training.module import RectifierModule


@torch.no_grad()
def validation_sums(
    module: RectifierModule, crops: CropDataset, rho: Tensor, numbers: Tensor, batch_size: int
) -> Tensor:
    """What becomes of some validation crops, each clean and perturbed.

    Args:
        module: with the rectifier and the loss.
        crops: with the network's predictions.
        rho: perturbations, K x 3 x H x W, with the place of each crop's own in ``numbers``.
        numbers: the crops and their perturbations, N x 2.
        batch_size: crops a forward pass.

    Returns:
        sums over the crops (float64): loss of the clean and of the perturbed one; whether the
        network is right on the clean, the rectified clean and the rectified perturbed one.
    """
    device, training = module.device, module.rectifier.training
    sums = torch.zeros(5, dtype=torch.float64, device=device)
    module.rectifier.eval()
    for block in torch.split(numbers, batch_size):
        which, drawn = block.unbind(1)
        clean = crops.take(which.tolist()).to(device).float()
        prediction = crops.prediction[which].to(device)
        label = crops.label[which].to(device)
        label = torch.where(label >= 0, label, prediction)
        right = [(prediction == label).sum()]
        loss = []
        for images in (clean, (clean + rho[drawn.to(rho.device)].to(device)).clamp(0, 255)):
            rectified = module.rectifier(images)
            loss.append(len(block) * module.loss(rectified, clean, prediction))
            right.append((module.network.predict(rectified) == label).sum())
        sums += torch.stack([*loss, *right])
    module.rectifier.train(training)
    return sums


def curve_of(sums: Tensor, count: int) -> dict[str, float]:
    """The points of the curve from :func:`validation_sums` of ``count`` crops.

    ``val/loss``         mean loss of clean and perturbed crops
    ``val/restoration``  acc(rectified mixed) / acc(clean) in percent, half of the set perturbed
    ``val/clean_kept``   acc(rectified clean) / acc(clean) in percent

    Each crop counts in the mixed set as clean and as perturbed by half, which is what a coin for
    each gives in the mean, without the coin's noise.

    Raises:
        UapError: the network gets no clean crop right.
    """
    loss_clean, loss_perturbed, clean, kept, restored = sums.tolist()
    if not clean:
        raise UapError(
            f"the network gets none of the {count} clean validation crops right: check that the "
            "labels are the network's classes, or set data.validation_share=0."
        )
    return {
        "val/loss": (loss_clean + loss_perturbed) / (2 * count),
        "val/restoration": 100 * (kept + restored) / (2 * clean),
        "val/clean_kept": 100 * kept / clean,
    }


class Validate(Callback):
    """Logs the validation curve, and keeps the best rectifier on request.

    Each crop has one member of P*, the perturbations of training, drawn once by the seed. The
    best is that of the highest restoration, the measure that training is for: on half clean
    images, so that a rectifier that spoils those is not the best. Of equals, which a few crops
    have often, it is that of the lowest loss.

    Not by Lightning's validation loop, which comes after the checkpoint of its step: a training
    that goes on from there would miss that point. Here it is in the checkpoint.

    Args:
        crops: validation crops with the network's predictions.
        every: steps between two points; the last step is one, too.
        keep_best: end with the best rectifier of the curve, not with the last.
        batch_size: crops a forward pass.
        seed: of the draw.
    """

    def __init__(
        self, crops: CropDataset, every: int, keep_best: bool, batch_size: int, seed: int
    ) -> None:
        self.crops = crops
        self.every = every
        self.keep_best = keep_best
        self.batch_size = batch_size
        self.seed = seed
        self._best: tuple[float, float] | None = None
        self._weights: dict[str, Tensor] = {}

    def on_train_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, Tensor],
        batch: object,
        batch_idx: int,
    ) -> None:
        """Add a point to the curve where it is time; processes share the crops."""
        step = trainer.global_step
        if step % self.every and step != trainer.max_steps:
            return
        module = cast(RectifierModule, pl_module)
        data = cast(TrainingDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        rho = cast(PerturbationSampler, data.perturb).perturbations
        drawn = draw_pairs(rho, len(self.crops), self.seed).perturbation
        numbers = torch.stack([torch.arange(len(drawn)), drawn], dim=1)
        own = numbers[trainer.global_rank :: trainer.world_size]
        sums = validation_sums(module, self.crops, rho, own, self.batch_size)
        total = cast(Tensor, trainer.strategy.reduce(sums, reduce_op="sum"))
        points = curve_of(total, len(self.crops))
        for logger in trainer.loggers:
            # Lightning counts steps from 0 in what it logs.
            logger.log_metrics(points, step - 1)
        found = (points["val/restoration"], -points["val/loss"])
        if self.keep_best and (self._best is None or found > self._best):
            self._best = found
            state = module.rectifier.state_dict()
            self._weights = {key: value.detach().cpu().clone() for key, value in state.items()}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the best rectifier, before the detector is fitted behind it."""
        if self.keep_best:
            cast(RectifierModule, pl_module).rectifier.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The best so far, for the checkpoint."""
        return {"best": self._best, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._best, self._weights = state_dict["best"], state_dict["weights"]
