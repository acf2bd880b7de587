"""The guard: target network, rectifier and detector as one module, and its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from torch import Tensor, nn

from uap_lightning.errors import UapError
from uap_lightning.metrics import Outcomes
from uap_lightning.networks import TargetNetwork, check_images
from uap_lightning.storage import (
    digest_of_file,
    make_folder,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)

SCHEMA = 1
_PARTS = ("rectifier", "detector")


@dataclass(frozen=True)
class Inspection:
    """What the guard saw in a batch of images.

    Attributes:
        logits: of the target network on what it was given, N x K.
        score: of the detector, N; above 0 means perturbed.
        perturbed: the decision, bool N.
        rectified: the rectified images, N x 3 x H x W, whether used or not.
    """

    logits: Tensor
    score: Tensor
    perturbed: Tensor
    rectified: Tensor


class Guard(nn.Module):
    """A target network behind a rectifier that acts only where the detector fires.

    Args:
        network: the frozen classifier.
        rectifier: maps images to rectified images.
        detector: scores I - R(I).
    """

    def __init__(self, network: TargetNetwork, rectifier: nn.Module, detector: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.rectifier = rectifier
        self.detector = detector

    @torch.no_grad()
    def inspect(self, images: Tensor) -> Inspection:
        """Classify images and say what was detected and rectified.

        Args:
            images: N x 3 x H x W, RGB, 0-255, uint8 or float.

        Raises:
            UapError: the images break the pixel contract.
        """
        check_images(images)
        images = images.float()
        rectified = self.rectifier(images)
        score = self.detector(images - rectified)
        perturbed = score > 0
        used = torch.where(perturbed[:, None, None, None], rectified, images)
        return Inspection(self.network(used), score, perturbed, rectified)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, through the defence: N x 3 x H x W, 0-255, to N x K."""
        return self.inspect(images).logits

    @torch.no_grad()
    def outcomes(
        self, images: Tensor, rho: Tensor, photograph: Tensor, label: Tensor, coin: Tensor
    ) -> Outcomes:
        """Everything the metrics need to know of a batch of test images.

        Args:
            images: clean, float N x 3 x H x W, 0-255.
            rho: the perturbation drawn for each, N x 3 x H x W.
            photograph: that each crop is from, N.
            label: class it is counted against, N.
            coin: uniform draw of each, N.
        """
        perturbed = (images + rho).clamp(0, 255)
        rectified_clean = self.rectifier(images)
        rectified_perturbed = self.rectifier(perturbed)
        return Outcomes(
            photograph=photograph,
            label=label,
            coin=coin,
            clean=self.network.predict(images),
            perturbed=self.network.predict(perturbed),
            rectified_clean=self.network.predict(rectified_clean),
            rectified_perturbed=self.network.predict(rectified_perturbed),
            score_clean=self.detector(images - rectified_clean),
            score_perturbed=self.detector(perturbed - rectified_perturbed),
        )


def save_defense(
    folder: Path,
    rectifier: nn.Module,
    detector: nn.Module,
    settings: dict[str, object],
    condition: dict[str, object],
) -> None:
    """Write a defence folder: two safetensors files and ``defense.json``.

    Args:
        folder: created if need be.
        rectifier: trained.
        detector: fitted.
        settings: how to build both: ``rectifier`` and ``detector``, each with its ``_target_``.
        condition: what it was trained on: network, norm, size, bank and so on.
    """
    make_folder(folder)
    digests = {}
    for part, module in zip(_PARTS, (rectifier, detector), strict=True):
        path = folder / f"{part}.safetensors"
        write_tensors(path, module.state_dict(), {})
        digests[part] = digest_of_file(path)
    write_json(
        folder / "defense.json",
        {"schema": SCHEMA, "condition": condition, "settings": settings, "sha256": digests},
    )


@dataclass(frozen=True)
class Defense:
    """A defence folder, read.

    Attributes:
        rectifier: in evaluation mode.
        detector: in evaluation mode.
        condition: what it was trained on.
        digest: SHA-256 of its ``defense.json``, which holds the digests of both files.
    """

    rectifier: nn.Module
    detector: nn.Module
    condition: dict[str, object]
    digest: str


def load_defense(folder: str | Path) -> Defense:
    """Read a defence folder that :func:`save_defense` wrote.

    Raises:
        UapError: a file is missing, altered, truncated or not ours, or of a newer schema.
    """
    folder = Path(folder)
    path = folder / "defense.json"
    content = read_json(path, "a defence folder written by uap_lightning.train")
    schema, settings = content.get("schema"), content.get("settings")
    digests, condition = content.get("sha256"), content.get("condition")
    if schema != SCHEMA:
        raise UapError(
            f"{path} has schema {schema}: expected {SCHEMA}; use the version of uap-lightning "
            "that wrote it, or train again."
        )
    if not (
        isinstance(settings, dict) and isinstance(digests, dict) and isinstance(condition, dict)
    ):
        raise UapError(f"{path} lacks its settings: expected a file that training wrote.")
    modules = {}
    for part in _PARTS:
        file = folder / f"{part}.safetensors"
        if digest_of_file(file) != digests.get(part):
            raise UapError(
                f"{file} is not the file that {path} describes (its SHA-256 differs): put the "
                "original back, or train again."
            )
        modules[part] = _build(settings.get(part), path)
        modules[part].load_state_dict(read_tensors(file)[0])
        modules[part].eval()
    return Defense(modules["rectifier"], modules["detector"], condition, digest_of_file(path))


def _build(settings: object, path: Path) -> nn.Module:
    content: dict[str, Any] = settings if isinstance(settings, dict) else {}
    target = content.get("_target_")
    # The file comes from elsewhere perhaps: it may name our own classes and nothing else.
    if not str(target).startswith(("uap_lightning.rectifiers.", "uap_lightning.detectors.")):
        raise UapError(
            f"{path} asks for {target}: expected a rectifier or a detector of uap_lightning."
        )
    module: nn.Module = hydra.utils.instantiate(content)
    return module
