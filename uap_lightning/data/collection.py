"""A collection of photographs as crops: to craft on, to train on and to test on."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of
from uap_lightning.data.cache import decode_once
from uap_lightning.data.crops import CropDataset
from uap_lightning.data.photographs import Split, check_apart, share_of, with_copies

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collection:
    """The crops of each use, and what is known of their photographs.

    Attributes:
        craft: crops that perturbations are crafted on, photographs of the training side.
        unseen: crops that measure fooling on images crafting has not seen; None when every
            training photograph is crafted on.
        train: crops that the rectifier is trained on and the detector fitted on.
        validation: crops of training photographs that are neither trained nor crafted on; None
            where there are none.
        test: crops to test on.
        crop: side of the crops in pixels.
        batch_size: crops a forward pass in testing.
        num_workers: loader processes.
        cache_dir: folder of the decode-once caches.
        classes: how many classes the labels are of; None where there are no labels.
        trained_on: digests of the bytes of training and validation photographs.
        crafted_on: digests of the bytes of those that are crafted on.
        tested_on: names of the test photographs by the digests of their bytes.
        test_split: digest of those digests.
        split_lists: the names of the photographs of each use, and of those left out.
    """

    craft: CropDataset
    unseen: CropDataset | None
    train: CropDataset
    validation: CropDataset | None
    test: CropDataset
    crop: int
    batch_size: int
    num_workers: int
    cache_dir: Path
    classes: int | None
    trained_on: list[str]
    crafted_on: list[str]
    tested_on: dict[str, str]
    test_split: str
    split_lists: dict[str, list[str]]


def load_collection(
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
    validation_share: float = 0.0,
) -> Collection:
    """Decode the photographs, or find them decoded, and lay out the crops of each use.

    Args:
        source: returns the training and the test photographs.
        resize: short side that all photographs are brought to, in pixels, the larger and the
            smaller ones; None keeps their size.
        upscale: take photographs whose short side is below ``crop``: they are enlarged, to ``crop``
            where ``resize`` is None; they are refused when False.
        crop: side of the crops in pixels.
        train_crops: crops of each training photograph.
        craft_crops: crops of each photograph that is crafted on.
        test_crops: crops of each test photograph.
        craft_share: share of the training photographs that perturbations are crafted on; the
            others measure the fooling ratio on images that crafting has not seen.
        batch_size: crops a forward pass in testing.
        num_workers: loader processes.
        cache_dir: folder of the decode-once caches.
        seed: of crops and splits.
        square: keep the central square of a resized photograph only.
        skip_corrupt: leave out photographs that cannot be decoded; ``split_lists`` names them.
        validation_share: share of the training photographs that is neither trained nor crafted on,
            for the validation curve, with ``test_crops`` crops of each.

    Raises:
        UapError: a size, count or share is out of its range, or too few photographs are left.
    """
    if crop < 8 or (resize is not None and resize < crop):
        raise UapError(
            f"data.crop is {crop} with data.resize {resize}: expected a crop of at least 8 "
            "pixels and no larger than the short side after resizing."
        )
    for key, value, most in (
        ("train_crops", train_crops, 10_000),
        ("craft_crops", craft_crops, 10_000),
        ("test_crops", test_crops, 10_000),
        ("batch_size", batch_size, 65_536),
    ):
        if not 1 <= value <= most:
            raise UapError(f"data.{key} is {value}: expected at least 1 and at most {most}.")
    if not 0 <= num_workers <= 1_024:
        raise UapError(f"data.num_workers is {num_workers}: expected 0 or more, at most 1,024.")
    if not 0 <= validation_share < 1:
        raise UapError(
            f"data.validation_share is {validation_share}: expected a share of at least 0 and "
            "below 1, such as 0.1."
        )
    split = source()
    everything = [*split.train, *split.test]
    cache = decode_once(
        everything,
        resize,
        1 if upscale and resize is not None else crop,  # then it does not depend on the crop
        Path(cache_dir),
        square=square,
        upscale=upscale,
        skip_corrupt=skip_corrupt,
    )
    corrupt = set(cache.skipped)
    photographs = [p for number, p in enumerate(everything) if number not in corrupt]
    contents = cache.contents
    drawn = len(set(range(len(split.train))) - corrupt)
    if split.given:
        check_apart(photographs[:drawn], photographs[drawn:], contents)
    training = with_copies(range(drawn), photographs, contents)
    tested = sorted(set(range(len(photographs))) - set(training))
    held: list[int] = []
    if validation_share:
        chosen = {training[n] for n in share_of(training, validation_share, seed + 1)}
        held = with_copies(chosen, photographs, contents)
        training = sorted(set(training) - set(held))
    chosen = {training[n] for n in share_of(training, craft_share, seed)}
    crafted = with_copies(chosen, photographs, contents)
    copies = len(contents) - len(set(contents))
    if not crafted or not tested or (validation_share and not held):
        raise UapError(
            f"{len(corrupt)} of {len(everything)} photographs cannot be decoded and {copies} are "
            "copies of others, which leaves none to train on, to test on or to validate on: "
            "replace them, or change data.validation_share."
        )
    if copies:
        log.warning(
            "%d of %d photographs are copies of others, byte for byte: each is on the side of "
            "the split that the first is on.",
            copies,
            len(contents),
        )
    labels = [-1 if p.label is None else p.label for p in photographs]

    def crops(numbers: list[int], count: int) -> CropDataset:
        return CropDataset(cache, numbers, [labels[n] for n in numbers], crop, count, seed)

    others = sorted(set(training) - set(crafted))
    tested_on = {contents[number]: photographs[number].name for number in tested}
    return Collection(
        craft=crops(crafted, craft_crops),
        unseen=crops(others, craft_crops) if others else None,
        train=crops(training, train_crops),
        validation=crops(held, test_crops) if held else None,
        test=crops(tested, test_crops),
        crop=crop,
        batch_size=batch_size,
        num_workers=num_workers,
        cache_dir=Path(cache_dir),
        classes=split.classes,
        trained_on=[contents[number] for number in [*training, *held]],
        crafted_on=[contents[number] for number in crafted],
        tested_on=tested_on,
        test_split=digest_of(sorted(tested_on)),
        split_lists={
            "train": [photographs[number].name for number in training],
            "craft": [photographs[number].name for number in crafted],
            "validation": [photographs[number].name for number in held],
            "test": [photographs[number].name for number in tested],
            "skipped": [everything[number].name for number in cache.skipped],
        },
    )
