"""The LightningDataModule: clean crops from the cache, perturbed on the device."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of
from uap_lightning.data.cache import decode_once
from uap_lightning.data.crops import Crop, CropDataset, StepBatches
from uap_lightning.data.photographs import Split, share_of
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


class PhotographDataModule(LightningDataModule):
    """Crops of photographs for crafting, training and testing.

    The loaders move uint8 crops only. Perturbations are added in ``on_after_batch_transfer``,
    on the device: at random while training, by the fixed paired draw while testing.

    Args:
        source: returns the training and the test photographs.
        resize: short side that photographs are resized to, in pixels; None keeps their size.
        crop: side of the crops in pixels.
        square: keep the central square of a resized photograph only.
        skip_corrupt: leave out photographs that cannot be decoded; ``split_lists`` names them.
        upscale: enlarge photographs whose short side is below ``crop``; they are refused when
            False.
        train_crops: crops of each training photograph.
        craft_crops: crops of each photograph that is crafted on.
        test_crops: crops of each test photograph.
        craft_share: share of the training photographs that perturbations are crafted on; the
            others measure the fooling ratio on images that crafting has not seen.
        batch_size: crops a forward pass in testing.
        num_workers: loader processes.
        cache_dir: folder of the decode-once caches.
        seed: of crops and splits.

    Attributes:
        craft, unseen, train, test: the crops of each use, once ``setup`` has run; ``unseen`` is
            None when every training photograph is crafted on.
        train_batch_size: crops a training step.
        numbered_classes: class folders, where labels are their places in alphabetical order.
        trained_on: identities of the training photographs, corrupt ones too.
        crafted_on: identities of the photographs that perturbations are crafted on.
        tested_on: names of the test photographs by their identities.
        test_split: digest of those identities.
        split_lists: the names of the photographs of each use, and of those left out.

    Raises:
        UapError: a size, count or share is out of its range.
    """

    def __init__(
        self,
        source: Callable[[], Split],
        resize: int | None,
        upscale: bool,
        crop: int,
        train_crops: int,
        craft_crops: int,
        test_crops: int,
        craft_share: float,
        batch_size: int,
        num_workers: int,
        cache_dir: str,
        seed: int,
        square: bool = False,
        skip_corrupt: bool = False,
    ) -> None:
        super().__init__()
        if crop < 8 or (resize is not None and resize < crop):
            raise UapError(
                f"data.crop is {crop} with data.resize {resize}: expected a crop of at least 8 "
                "pixels and no larger than the short side after resizing."
            )
        for key, value in (
            ("train_crops", train_crops),
            ("craft_crops", craft_crops),
            ("test_crops", test_crops),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise UapError(f"data.{key} is {value}: expected at least 1.")
        if num_workers < 0:
            raise UapError(f"data.num_workers is {num_workers}: expected 0 or more.")
        self.source = source
        self.resize = resize
        self.crop = crop
        self.upscale = upscale
        self.train_crops = train_crops
        self.craft_crops = craft_crops
        self.test_crops = test_crops
        self.craft_share = craft_share
        self.batch_size = batch_size
        self.train_batch_size = batch_size
        self.num_workers = num_workers
        self.cache_dir = Path(cache_dir)
        self.seed = seed
        self.square = square
        self.skip_corrupt = skip_corrupt
        self.perturb: Perturb | None = None
        self.draw: PairedDraw | None = None
        self._ready = False

    @property
    def _process(self) -> tuple[int, int]:
        """The number of this process, and how many train together."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    @property
    def _step(self) -> int:
        return self.trainer.global_step if self.trainer else 0

    def setup(self, stage: str | None = None) -> None:
        """Decode the photographs, or find them decoded, and lay out the crops."""
        if self._ready:
            return
        split = self.source()
        everything = [*split.train, *split.test]
        smallest = 1 if self.upscale and self.resize is not None else self.crop
        cache = decode_once(
            everything,
            self.resize,
            smallest,
            self.cache_dir,
            square=self.square,
            skip_corrupt=self.skip_corrupt,
        )
        corrupt = set(cache.skipped)
        photographs = [p for number, p in enumerate(everything) if number not in corrupt]
        trained = [p for n, p in enumerate(split.train) if n not in corrupt]
        if not trained or len(trained) == len(photographs):
            raise UapError(
                f"{len(corrupt)} of {len(everything)} photographs cannot be decoded, which leaves "
                "none to train on or none to test on: replace them."
            )
        labels = [-1 if p.label is None else p.label for p in photographs]

        def crops(numbers: list[int], count: int) -> CropDataset:
            chosen = [labels[number] for number in numbers]
            return CropDataset(cache, numbers, chosen, self.crop, count, self.seed)

        training = list(range(len(trained)))
        tested = list(range(len(trained), len(photographs)))
        crafted = share_of(trained, self.craft_share, self.seed)
        others = [number for number in training if number not in set(crafted)]
        self.train = crops(training, self.train_crops)
        self.craft = crops(crafted, self.craft_crops)
        self.unseen = crops(others, self.craft_crops) if others else None
        self.test = crops(tested, self.test_crops)
        self.split_lists = {
            "train": [photographs[number].name for number in training],
            "craft": [photographs[number].name for number in crafted],
            "test": [photographs[number].name for number in tested],
            "skipped": [everything[number].name for number in cache.skipped],
        }
        self.numbered_classes = split.numbered_classes
        self.trained_on = [photograph.identity for photograph in split.train]
        self.crafted_on = [photographs[number].identity for number in crafted]
        self.tested_on = {photograph.identity: photograph.name for photograph in split.test}
        self.test_split = digest_of(sorted(self.tested_on))
        self._ready = True

    def train_dataloader(self) -> DataLoader[Crop]:
        """Training crops in an order that depends on the seed and the step only."""
        return self._loader(self.train, batch_sampler=self._train_batches())

    def _train_batches(self) -> StepBatches:
        return StepBatches(
            len(self.train), self.train_batch_size, self.seed, lambda: self._step, *self._process
        )

    def test_dataloader(self) -> DataLoader[Crop]:
        """Test crops in order; of several processes, each has a part of its own."""
        rank, processes = self._process
        # Parts that follow one another: gathered, they are in order again.
        part = torch.arange(len(self.test)).tensor_split(processes)[rank]
        return self._loader(Subset(self.test, part.tolist()), batch_size=self.batch_size)

    def _loader(
        self,
        crops: Dataset[Crop],
        batch_size: int = 1,
        batch_sampler: StepBatches | None = None,
    ) -> DataLoader[Crop]:
        return DataLoader(
            crops,
            batch_size=batch_size,
            batch_sampler=batch_sampler,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: Crop, dataloader_idx: int) -> dict[str, Tensor]:
        """Add perturbations on the device.

        Returns:
            the crop's entries with ``image`` as float 0-255 and, in training, ``input`` (what
            the rectifier sees) and ``weight`` (of this process's mean loss); in testing, ``rho``
            (the perturbation drawn for each image) and ``coin`` (its uniform draw).
        """
        images = batch["image"].float()
        result = {**cast(dict[str, Tensor], batch), "image": images}
        if self.trainer is not None and self.trainer.testing and self.draw is not None:
            number = batch["number"].cpu()
            which = self.draw.perturbation[number].to(images.device)
            result["rho"] = self.draw.perturbations.to(images.device)[which]
            result["coin"] = self.draw.coin[number].to(images.device)
        elif self.perturb is not None and self.trainer is not None:
            batches, step = self._train_batches(), self._step
            positions, size = batches.positions(step), batches.size(step)
            result["input"], _ = self.perturb(images, step, positions, size)
            result["weight"] = torch.tensor(batches.weight(step))
        return result
