"""The LightningDataModules: clean uint8 crops from the cache, perturbed on the device."""

from typing import Protocol, cast

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from uap_lightning.data.colours import DRAWS, recoloured
from uap_lightning.data.crops import Crop, CropDataset, StepBatches
from uap_lightning.perturbations.sampling import PairedDraw


class Perturb(Protocol):
    """Perturbs a batch on its device, by the step's own random numbers."""

    def __call__(
        self, images: Tensor, step: int, positions: list[int] | None = None, size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images (float, 0-255) to (perturbed or clean images, which were perturbed).

        Where processes share a batch, ``images`` are those of this one, ``positions`` their
        places in the batch, and ``size`` the images of the whole batch.
        """


class TrainingDataModule(LightningDataModule):
    """Training crops in an order of the seed's, perturbed at random.

    Batches and perturbations depend on the seed and the step alone, so that training goes on
    after an interruption as if there had been none.

    Args:
        crops: to train on.
        perturb: adds members of P*.
        batch_size: crops a step, over all processes.
        seed: of the order.
        num_workers: loader processes.
        recolour: share of the crops that are given other colours before they are perturbed
            (:func:`~uap_lightning.data.colours.recoloured`).
    """

    def __init__(
        self,
        crops: CropDataset,
        perturb: Perturb,
        batch_size: int,
        seed: int,
        num_workers: int = 0,
        recolour: float = 0.0,
    ) -> None:
        super().__init__()
        self.crops = crops
        self.perturb = perturb
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.recolour = recolour

    def _step(self) -> int:
        assert self.trainer is not None
        return self.trainer.global_step

    def _batches(self) -> StepBatches:
        assert self.trainer is not None
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        return StepBatches(len(self.crops), self.batch_size, self.seed, self._step, rank, processes)

    def train_dataloader(self) -> DataLoader[Crop]:
        """The batches of this process."""
        return DataLoader(
            self.crops,
            batch_sampler=self._batches(),
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: Crop, dataloader_idx: int) -> dict[str, Tensor]:
        """Add perturbations on the device.

        Returns:
            the crop's entries with ``image`` as float 0-255, ``input`` (what the rectifier sees)
            and ``weight`` (of this process's mean loss).
        """
        images, batches, step = batch["image"].float(), self._batches(), self._step()
        positions, size = batches.positions(step), batches.size(step)
        if self.recolour:
            # Drawn for the whole batch, of which each process takes its own; not the draws of
            # the perturbations, whose seeds these are negatives of.
            generator = torch.Generator().manual_seed(-1 - self.seed * 1_000_003 - step)
            draws = torch.rand(size, DRAWS, generator=generator)[positions]
            images = recoloured(images, draws, self.recolour)
        given, _ = self.perturb(images, step, positions, size)
        weight = torch.tensor(batches.weight(step))
        return {**cast(dict[str, Tensor], batch), "image": images, "input": given, "weight": weight}


class EvaluationDataModule(LightningDataModule):
    """Test crops in order, each with the perturbation and the coin of the paired draw.

    Args:
        crops: to test on.
        draw: the perturbation and the coin of each.
        batch_size: crops a forward pass.
        num_workers: loader processes.

    Attributes:
        first: the crop to begin with, where an interrupted test goes on.
    """

    def __init__(
        self, crops: CropDataset, draw: PairedDraw, batch_size: int, num_workers: int = 0
    ) -> None:
        super().__init__()
        self.first = 0
        self.crops = crops
        self.draw = draw
        self.batch_size = batch_size
        self.num_workers = num_workers

    def test_dataloader(self) -> DataLoader[Crop]:
        """The crops; of several processes, each has a part of its own."""
        assert self.trainer is not None
        # Parts that follow one another: gathered, they are in order again.
        parts = torch.arange(self.first, len(self.crops)).tensor_split(self.trainer.world_size)
        return DataLoader(
            Subset(self.crops, parts[self.trainer.global_rank].tolist()),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: Crop, dataloader_idx: int) -> dict[str, Tensor]:
        """Add what was drawn.

        Returns:
            the crop's entries with ``image`` as float 0-255, ``perturbation`` (the number of
            the one drawn for each image), ``rho`` (that perturbation) and ``coin`` (the image's
            uniform draw).
        """
        images, number = batch["image"].float(), batch["number"].cpu()
        which = self.draw.perturbation[number].to(images.device)
        rho = self.draw.perturbations.to(images.device)[which]
        coin = self.draw.coin[number].to(images.device)
        drawn = {"perturbation": which, "rho": rho, "coin": coin}
        return {**cast(dict[str, Tensor], batch), "image": images, **drawn}
