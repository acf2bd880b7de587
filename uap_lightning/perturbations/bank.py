"""The bank: a folder of crafted perturbations that keep the paper's bounds (section 5)."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, read_json
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.record import Record, load_perturbation


@dataclass(frozen=True)
class Bounds:
    """What a perturbation must keep to enter the bank.

    Attributes:
        min_fooling_ratio: on the crafting images, 0-1; the paper's is 0.8.
        max_cosine: largest absolute cosine to any other of the bank; the paper's is 0.15.
        attempts: seeds tried for each perturbation before giving up.
    """

    min_fooling_ratio: float
    max_cosine: float
    attempts: int


@dataclass(frozen=True)
class Bank:
    """Crafted perturbations of one network, norm and size.

    Attributes:
        folder: where the files are.
        identity: digest of what made the bank; part of the folder's name.
        train: perturbations for training, K x 3 x H x W.
        test: perturbations for testing; never used in training.
        records: of both, training ones first.
    """

    folder: Path
    identity: str
    train: Tensor
    test: Tensor
    records: tuple[Record, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the perturbations, training ones first, and how many are which."""
        digest = hashlib.sha256(f"{len(self.train)} {len(self.test)} ".encode())
        digest.update(self.train.numpy().tobytes())
        digest.update(self.test.numpy().tobytes())
        return digest.hexdigest()


def open_bank(folder: Path, network: TargetNetwork, norm: Ball, size: int) -> Bank:
    """Read a bank that the user names, and check that it fits the run.

    Args:
        folder: of the bank.
        network: whose perturbations are asked for, with the same weights; imported ones are told
            by its name alone.
        norm: the ball they must lie in.
        size: side in pixels.

    Raises:
        UapError: no bank there, or one of another network, weights, norm or size.
    """
    description = read_json(folder / "bank.json", "a folder that uap_lightning.craft has filled")
    expected = {"network": network.name, "p": norm_name(norm), "size": size}
    if "weights" in description:
        expected["weights"] = network.digest
    for key, value in expected.items():
        if description.get(key) != value:
            raise UapError(
                f"bank.path is {folder}, whose {key} is {description.get(key)}: expected {value}; "
                "give a bank that was crafted for this network, norm and crop, or leave "
                "bank.path=null to have one crafted."
            )
    eps = float(str(description["eps"]))
    if not math.isclose(eps, norm.eps, rel_tol=1e-6):
        raise UapError(
            f"bank.path is {folder}, whose eps is {eps}: expected {norm.eps}; set norm.eps, or "
            "give a bank of this radius."
        )
    train = sorted(folder.glob("train-*.safetensors"))
    test = sorted(folder.glob("test-*.safetensors"))
    if not test:
        raise UapError(
            f"bank.path is {folder}, which has {len(train)} training and {len(test)} test "
            "perturbations: expected at least one to test on; run uap_lightning.craft to fill it, "
            "or import some with --part test."
        )
    pairs = [load_perturbation(path) for path in [*train, *test]]
    rhos = torch.stack([rho for rho, _ in pairs])
    records = tuple(record for _, record in pairs)
    return Bank(folder, digest_of(description), rhos[: len(train)], rhos[len(train) :], records)


def perturbations_of(folder: Path) -> dict[str, tuple[Tensor, Record]]:
    """All perturbations of a bank by name, training ones first."""
    files = [
        *sorted(folder.glob("train-*.safetensors")),
        *sorted(folder.glob("test-*.safetensors")),
    ]
    return {file.stem: load_perturbation(file) for file in files}


def largest_cosine(rho: Tensor, others: list[Tensor]) -> float:
    """Largest absolute cosine between ``rho`` and ``others``; 0 without any."""
    if not others:
        return 0.0
    stacked = torch.stack([other.flatten() for other in others])
    return float(torch.cosine_similarity(stacked, rho.flatten()[None], dim=1).abs().max())


def norm_name(norm: Ball) -> str:
    """The norm as records write it: ``2`` or ``inf``."""
    return "2" if norm.p == 2 else "inf"
