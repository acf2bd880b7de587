"""Any torchvision classifier with torchvision's own weights or a local file."""

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from uap_lightning.core.errors import UapError
from uap_lightning.networks.target import TargetNetwork
from uap_lightning.networks.weights import check_classes, load_into, read_weights

_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def torchvision_classifier(
    model: str,
    weights: str | None = None,
    sha256: str | None = None,
    classes: int | None = None,
    *,
    name: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    bgr: bool = False,
) -> TargetNetwork:
    """A classifier of ``torchvision.models``, RGB, with the normalisation of its weights.

    Args:
        model: its name, such as ``googlenet``.
        weights: a local state dict; torchvision's default weights when None.
        sha256: checksum that file must have.
        classes: number of classes of the local weights; the default weights' when None.
        name: how it is called in records; ``model`` when None.
        mean: three values that local weights want subtracted, pixel units, in the order of
            their channels; torchvision's when None.
        std: three values that they want it divided by then; torchvision's when None.
        bgr: the local weights expect blue first.

    Raises:
        UapError: no such classifier, the weights cannot be had, or mean and std are no scale.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if model not in names:
        raise UapError(
            f"network.model is {model}, which torchvision does not have as a classifier: choose "
            f"one of {', '.join(names)}."
        )
    check_classes(classes)
    default: WeightsEnum = torchvision.models.get_model_weights(model)["DEFAULT"]
    own_input = mean is not None or std is not None or bgr
    if weights is None:
        if own_input:
            raise UapError(
                f"network.weights is not set for {name or model}, whose network.mean, network.std "
                "or network.bgr belong to other weights than torchvision's: set "
                "network.weights=FILE to their state dict in torchvision's layout."
            )
        network = _with_default_weights(model, default)
    else:
        tensors = read_weights(Path(weights), sha256)
        network = _architecture(model, tensors, classes, rescaled=not own_input)
        load_into(network, tensors, model, weights)
    preset = default.transforms()
    mean = mean or [255.0 * float(value) for value in preset.mean]
    std = std or [255.0 * float(value) for value in preset.std]
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UapError(
            f"network.mean is {list(mean)} and network.std is {list(std)}: expected three values "
            "each, in pixel units, the scale above 0."
        )
    return TargetNetwork(network, name or model, mean, std, bgr=bgr)


def _architecture(
    model: str, weights: dict[str, Tensor], classes: int | None, *, rescaled: bool
) -> nn.Module:
    """The module as its weights expect it.

    torchvision's own GoogLeNet and Inception v3 rescale their input to the range they were
    trained on. Their files may carry auxiliary heads, which are never reached in evaluation mode.
    """
    extra: dict[str, bool | int] = {} if classes is None else {"num_classes": classes}
    if model in _WITH_AUXILIARY_HEADS:
        heads = any(key.startswith(("aux1.", "AuxLogits.")) for key in weights)
        extra |= {"init_weights": False, "transform_input": rescaled, "aux_logits": heads}
    network: nn.Module = torchvision.models.get_model(model, weights=None, **extra)
    return network


def _with_default_weights(model: str, default: WeightsEnum) -> nn.Module:
    try:
        network: nn.Module = torchvision.models.get_model(model, weights=default)
    except (URLError, OSError, RuntimeError) as error:
        file = Path(torch.hub.get_dir()) / "checkpoints" / default.url.rsplit("/", 1)[-1]
        raise UapError(
            f"the weights of network={model} are not on this machine and could not be fetched "
            f"from {default.url} ({error}): put the file at {file}, or set "
            "network.weights=FILE to a local copy."
        ) from error
    return network
