"""The bank: a folder of crafted perturbations that keep the paper's bounds (section 5)."""

import hashlib
import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, read_as, read_json
from uap_lightning.core.terminal import plain
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.record import NormName, Record, load_perturbation


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
class Description:
    """What ``bank.json`` says of every perturbation beside it, whatever else it says.

    Attributes:
        network: name of the network they were crafted on.
        p: norm that bounds them.
        eps: radius of the ball, pixel units.
        size: side in pixels.
        weights: SHA-256 of the network's weights; None where they were imported.
        photographs: identities of the photographs crafted on; none are known of imported ones.
    """

    network: str
    p: NormName
    eps: float
    size: int
    weights: str | None = None
    photographs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bank:
    """Crafted perturbations of one network, norm and size.

    Attributes:
        folder: where the files are.
        identity: digest of what made the bank; part of the folder's name.
        train: perturbations for training, K x 3 x H x W.
        test: perturbations for testing; never used in training.
        records: of both, training ones first.
        photographs: identities of the photographs they were crafted on, as far as known.
    """

    folder: Path
    identity: str
    train: Tensor
    test: Tensor
    records: tuple[Record, ...]
    photographs: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the perturbations, training ones first, and how many are which."""
        digest = hashlib.sha256(f"{len(self.train)} {len(self.test)} ".encode())
        digest.update(self.train.numpy().tobytes())
        digest.update(self.test.numpy().tobytes())
        return digest.hexdigest()


def identities(perturbations: Tensor) -> list[str]:
    """The SHA-256 of each perturbation of K x 3 x H x W: the same in whatever bank it lies."""
    return [hashlib.sha256(rho.numpy().tobytes()).hexdigest()[:32] for rho in perturbations]


def open_bank(folder: Path, network: TargetNetwork, norm: Ball, size: int) -> Bank:
    """Read a bank that the user names, and check that it fits the run.

    Args:
        folder: of the bank.
        network: whose perturbations are asked for, with the same weights; imported ones are told
            by its name alone.
        norm: the ball they must lie in.
        size: side in pixels.

    Raises:
        UapError: no bank there, one of another network, weights, norm or size, or a file that
            does not belong to it.
    """
    description = read_description(folder)
    expected = {"network": network.name, "p": norm_name(norm), "size": size}
    if description.weights is not None:
        expected["weights"] = network.digest
    for key, value in expected.items():
        if getattr(description, key) != value:
            raise UapError(
                f"bank.path is {folder}, whose {key} is {shown(getattr(description, key))}: "
                f"expected {value}; give a bank that was crafted for this network, norm and crop, "
                "or leave bank.path=null to have one crafted."
            )
    if not math.isclose(description.eps, norm.eps, rel_tol=1e-6):
        raise UapError(
            f"bank.path is {folder}, whose eps is {description.eps}: expected {norm.eps}; set "
            "norm.eps, or give a bank of this radius."
        )
    pairs = perturbations_of(folder)
    names = [name for name in pairs if name.startswith("test")]
    if not names:
        raise UapError(
            f"bank.path is {folder}, which has {len(pairs)} training and 0 test perturbations: "
            "expected at least one to test on; run uap_lightning.craft to fill it, or import some "
            "with --part test."
        )
    return read_bank(folder, list(pairs))


def read_bank(folder: Path, names: list[str]) -> Bank:
    """The bank of these perturbations, training ones first; each is checked.

    Raises:
        UapError: a file is missing, broken, or does not belong to the bank.
    """
    description = read_description(folder)
    pairs = [read_member(folder / f"{name}.safetensors", description) for name in names]
    train = sum(name.startswith("train") for name in names)
    rhos = torch.stack([rho for rho, _ in pairs])
    identity = digest_of(read_json(folder / "bank.json", "the description of a bank"))
    records = tuple(record for _, record in pairs)
    return Bank(folder, identity, rhos[:train], rhos[train:], records, description.photographs)


def check_unseen(bank: Bank, tested: Collection[str], key: str = "bank.path") -> None:
    """Refuse to test on photographs that the bank's perturbations were crafted on.

    Args:
        bank: what would be tested with, or trained on before that.
        tested: identities of the test photographs.
        key: the setting that names the bank.

    Raises:
        UapError: there are such photographs.
    """
    seen = len(set(bank.photographs) & set(tested))
    if seen:
        raise UapError(
            f"{key} names {bank.folder}, which was crafted on {seen} of the {len(tested)} test "
            "photographs: expected none; give a bank that was crafted on others, the seed and "
            f"data.source it was crafted with, or leave {key} out."
        )


def read_description(folder: Path) -> Description:
    """What a bank says of its perturbations.

    Raises:
        UapError: there is no ``bank.json``, or a value in it is missing or out of its range.
    """
    path = folder / "bank.json"
    description = read_as(path, Description, "a bank, which uap_lightning.craft fills")
    if not (0 < description.eps < math.inf and description.size > 0):
        raise UapError(
            f"{path} has eps {description.eps} and size {description.size}: expected a radius and "
            "a side above 0; put the bank's own bank.json in its place."
        )
    return description


def training_banks(folder: Path) -> list[Path]:
    """The banks in and below a folder that hold perturbations for training, by name.

    Links are followed, to each folder once. What lies in folders whose names begin with a dot is
    no part of a bank.

    Raises:
        UapError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return  # where nothing is, there is no bank
        raise UapError(
            f"{error.filename} cannot be read ({error.strerror}): give a folder of banks that can."
        ) from error

    found, been = [], set()
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        # In order, so that it is always the same one of two ways to a folder that is taken.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        whole = os.path.realpath(place)
        if whole in been:
            folders.clear()
            continue
        been.add(whole)
        if any(name.startswith("train-") and name.endswith(".safetensors") for name in files):
            found.append(Path(place))
    return sorted(found)


def perturbations_of(folder: Path) -> dict[str, tuple[Tensor, Record]]:
    """All perturbations of a bank by name, training ones first; none where nothing is.

    Raises:
        UapError: they are not described, or a file is broken or does not belong to them.
    """
    try:
        files = [
            *sorted(folder.glob("train-*.safetensors")),
            *sorted(folder.glob("test-*.safetensors")),
        ]
    except OSError as error:
        raise UapError(
            f"{folder} cannot be read ({error.strerror}): give the folder of a bank."
        ) from error
    if not files:
        return {}
    description = read_description(folder)
    return {file.stem: read_member(file, description) for file in files}


def read_member(path: Path, description: Description) -> tuple[Tensor, Record]:
    """A perturbation of a bank and its record.

    Raises:
        UapError: the file is broken, its record is of another bank, or its perturbation is of
            another size or outside the ball.
    """
    rho, record = load_perturbation(path)
    keys = ["network", "p", "eps", "size", *(["weights"] if description.weights else [])]
    for key in keys:
        found, expected = getattr(record, key), getattr(description, key)
        if found != expected:
            raise UapError(
                f"{path} was made with {key} {shown(found)}: expected {shown(expected)}, as its "
                "bank.json says; remove it from the bank."
            )
    largest = float(Ball(float(record.p), record.eps).size(rho))
    if rho.shape[-1] != description.size or not largest <= description.eps * (1 + 1e-5):
        raise UapError(
            f"{path} has {rho.shape[-1]} x {rho.shape[-1]} pixels and norm {largest:.6g}: expected "
            f"{description.size} x {description.size} and at most {description.eps:.6g}, as its "
            "bank.json says; remove it from the bank."
        )
    return rho, record


def largest_cosine(rho: Tensor, others: list[Tensor]) -> float:
    """Largest absolute cosine between ``rho`` and ``others``; 0 without any."""
    if not others:
        return 0.0
    stacked = torch.stack([other.flatten() for other in others])
    return float(torch.cosine_similarity(stacked, rho.flatten()[None], dim=1).abs().max())


def norm_name(norm: Ball) -> NormName:
    """The norm as records write it: ``2`` or ``inf``."""
    return "2" if norm.p == 2 else "inf"


def shown(value: object) -> str:
    """What others wrote, for a sentence: plain and short."""
    text = plain(str(value))
    return text if len(text) <= 100 else f"{text[:100]}..."
