"""What the stream's experiments share: network, photographs, patterns, whitener, and intervals."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from uap_lightning.core.errors import UapError
from uap_lightning.data import Collection
from uap_lightning.data.crops import CropDataset, Images
from uap_lightning.jobs.config import build
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.jobs.stages import check_labels, load_network, predicted
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.record import load_perturbation
from uap_lightning.streams.whitening import MOST, Whitener

# Attacked photographs that estimates are drawn from; the others are tested on.
LEARN = 256
FITS = ("crop", "resize")
_BATCH = 32
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Setting:
    """What is measured on.

    Attributes:
        network: under attack.
        whitener: fitted on training photographs.
        images: test photographs in an order of the seed's, uint8 N x 3 x H x W.
        label: what answers are counted against, N.
        patterns: used for nothing but this test: name to (3 x H x W, norm).
        train: training photographs.
        tested_on: names of the test photographs by their identities.
    """

    network: TargetNetwork
    whitener: Whitener
    images: Tensor
    label: Tensor
    patterns: dict[str, tuple[Tensor, str]]
    train: Images
    tested_on: Mapping[str, str] = field(default_factory=dict)


def load_setting(cfg: CraftConfig, options: argparse.Namespace, learn: int = LEARN) -> Setting:
    """Network and photographs of a config, and the patterns of ``--patterns``.

    Args:
        cfg: the job's.
        options: of :func:`parser`.
        learn: test photographs that are not tested on, because estimates are drawn from them.

    Raises:
        UapError: something is missing, or does not fit.
    """
    cfg.data.update(train_crops=1, test_crops=1)
    data = build(cfg.data, Collection)
    network = load_network(cfg.network, cfg.accelerator).eval().requires_grad_(False)
    check_labels(data, network)
    images, label = test_photographs(network, data, options.photographs, cfg.seed, learn)
    numbers = list(range(0, len(data.train), max(1, len(data.train) // MOST)))
    whitener = Whitener(data.crop).fit(data.train.take(numbers))
    patterns = load_patterns(options.patterns, data.crop, options.fit)
    return Setting(network, whitener, images, label, patterns, data.train, data.tested_on)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that both experiments have; what is not among them is Hydra's."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--patterns", type=Path, required=True, help="folder of perturbation files")
    result.add_argument("--fit", choices=FITS, help="what becomes of larger perturbations")
    result.add_argument("--photographs", type=int, default=100_000, help="test photographs at most")
    return result


def parse(
    known: argparse.ArgumentParser, arguments: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """The options, with the whole ``command``, and Hydra's overrides."""
    options, overrides = known.parse_known_args(arguments)
    options.command = " ".join(arguments)
    return options, overrides


def test_photographs(
    network: TargetNetwork, data: Collection, most: int, seed: int, learn: int
) -> tuple[Tensor, Tensor]:
    """Test photographs in an order of the seed's, and the labels they are counted against."""
    test: CropDataset = data.test
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:most]
    if len(order) < learn + 20:
        raise UapError(
            f"there are {len(order)} test photographs: expected at least {learn + 20}, {learn} to "
            "estimate from and the others to test on."
        )
    known = bool((test.label >= 0).all())
    label = test.label if known else predicted(network, test, data.cache_dir).prediction
    return test.take(order.tolist()), label[order]


def load_patterns(folder: Path, size: int, fit: str | None = None) -> dict[str, tuple[Tensor, str]]:
    """The perturbations below a folder: name to (3 x size x size, norm).

    Args:
        folder: of banks.
        size: of the images.
        fit: what becomes of larger ones: ``crop`` takes the upper left corner, ``resize``
            interpolates, which makes them smoother; None refuses them.

    Raises:
        UapError: there is none, or one is of another size.
    """
    found: dict[str, tuple[Tensor, str]] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        rho, record = load_perturbation(path)
        side = rho.shape[-1]
        if side < size:
            raise UapError(f"{path} has a side of {side}: expected at least {size}.")
        if side > size and fit is None:
            raise UapError(
                f"{path} has a side of {side} and the images one of {size}: add --fit crop for its "
                "upper left corner, or --fit resize to interpolate."
            )
        if fit == "resize":
            rho = functional.interpolate(rho[None], (size, size), mode="area")[0]
        name = path.relative_to(folder).with_suffix("").as_posix()
        found[name] = (rho[:, :size, :size], record.p)
    if not found:
        raise UapError(f"--patterns is {folder}, which holds no perturbation file.")
    return found


def attacked(images: Tensor, rho: Tensor) -> Tensor:
    """Images as a service receives them: perturbed, rounded to whole numbers."""
    return (images.float() + rho).round().clamp(0, 255).to(torch.uint8)


def residuals_of(whitener: Whitener, images: Tensor) -> Tensor:
    """Whitened residuals, batch by batch."""
    return torch.cat([whitener(batch) for batch in torch.split(images, _BATCH)])


@torch.no_grad()
def answers(network: TargetNetwork, images: Tensor) -> Tensor:
    """Classes of images, batch by batch, on the processor's side."""
    device = network.mean.device
    parts = torch.split(images, _BATCH)
    return torch.cat([network.predict(batch.to(device)).cpu() for batch in parts])


def interval(right: Tensor, clean: Tensor, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval over photographs of the ratio of two accuracies, percent."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(right), (_RESAMPLES, len(right)), generator=generator)
    ratio = 100 * right[drawn].double().sum(1) / clean[drawn].double().sum(1)
    low, high = torch.quantile(ratio, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high
