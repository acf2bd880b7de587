"""Weights from local files: checked, and loaded without pickle's powers."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, read_tensors


def read_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` or a torch file (``weights_only``).

    Args:
        path: the file.
        sha256: the checksum it must have; not checked when None.

    Raises:
        UapError: the file is missing, has another checksum, or is not a state dict.
    """
    check_file(path, sha256)
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no narrower set of errors for a bad file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UapError(
            f"{path} is not a state dict that torch loads with weights_only=True ({reason}): "
            "save model.state_dict() and give that file."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UapError(f"{path} does not hold a state dict: save model.state_dict() in it.")
    return content


def check_file(path: Path, sha256: str | None) -> None:
    """That a file of weights is there and is the one expected.

    Raises:
        UapError: the file is missing, or has another checksum than ``sha256``.
    """
    if not path.is_file():
        raise UapError(
            f"network.weights is {path}, which is not a file: give the path of a file of weights."
        )
    if sha256 is None:
        return
    found = digest_of_file(path)
    if found != sha256.lower():
        raise UapError(
            f"{path} has SHA-256 {found}: expected {sha256}; fetch the file again or set "
            "network.sha256 to the checksum of the file you trust."
        )


def check_classes(classes: int | None) -> None:
    """That a number of classes is one that a classifier may have.

    Raises:
        UapError: it is below 1 or above a million.
    """
    if classes is not None and not 1 <= classes <= 1_000_000:
        raise UapError(
            f"network.classes is {classes}: expected the number of classes of network.weights, "
            "from 1 to a million, or null for the library's own."
        )


def load_into(model: nn.Module, weights: dict[str, Tensor], name: str, origin: object) -> None:
    """Load ``weights`` into ``model``, every tensor or none.

    Raises:
        UapError: the weights belong to another network; the first difference is named.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in weights]
    unknown = [key for key in weights if key not in own]
    differing = [
        f"{key} is {tuple(weights[key].shape)} and should be {tuple(tensor.shape)}"
        for key, tensor in own.items()
        if key in weights and weights[key].shape != tensor.shape
    ]
    if missing or unknown or differing:
        difference = (
            differing[0]
            if differing
            else f"{missing[0]} is missing"
            if missing
            else f"{unknown[0]} is not part of it"
        )
        raise UapError(
            f"{origin} does not hold weights of {name} ({difference}): give the weights of this "
            "network, or choose the network that they belong to."
        )
    model.load_state_dict(weights)


def digest_of_weights(model: nn.Module) -> str:
    """SHA-256 over the names and the bytes of every tensor of ``model`` (hex)."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
