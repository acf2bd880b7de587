"""Any timm model with timm's own weights or a local file."""

from pathlib import Path
from typing import Any, cast

import timm
from torch import nn

from uap_lightning.core.errors import UapError
from uap_lightning.networks.target import TargetNetwork
from uap_lightning.networks.weights import check_classes, load_into, read_weights


def timm_classifier(
    model: str,
    weights: str | None = None,
    sha256: str | None = None,
    classes: int | None = None,
) -> TargetNetwork:
    """A classifier of timm, RGB, with the normalisation of its pretrained configuration.

    Args:
        model: a timm name, such as ``resnet18.a1_in1k``.
        weights: a local state dict; timm's pretrained weights when None.
        sha256: checksum that file must have.
        classes: number of classes of the local weights; timm's own when None.

    Raises:
        UapError: no such model, or the weights cannot be had.
    """
    if not timm.is_model(model):
        near = ", ".join(timm.list_models(f"*{model.split('.')[0][:6]}*")[:5]) or "none alike"
        raise UapError(
            f"network.model is {model}, which timm does not have: see timm.list_models() "
            f"(near it: {near})."
        )
    check_classes(classes)
    if weights is None:
        network = _with_own_weights(model)
    else:
        network = timm.create_model(model, pretrained=False, num_classes=classes)
        load_into(network, read_weights(Path(weights), sha256), model, weights)
    config = cast(dict[str, Any], network.pretrained_cfg)
    mean = [255.0 * float(value) for value in config["mean"]]
    std = [255.0 * float(value) for value in config["std"]]
    return TargetNetwork(network, model, mean, std)


def _with_own_weights(model: str) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(model, pretrained=True)
    except Exception as error:  # the hub's client raises its own and its transports' errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UapError(
            f"the weights of network.model={model} are not on this machine and could not be "
            f"fetched from the Hugging Face Hub ({reason}): set network.weights=FILE to a local "
            "state dict."
        ) from error
    return network
