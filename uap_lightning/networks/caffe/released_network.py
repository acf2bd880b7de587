"""Networks of Caffe's time, with weights in the files that they were published in."""

from pathlib import Path

from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, read_tensors, write_tensors
from uap_lightning.networks.caffe.caffemodel import read_caffemodel
from uap_lightning.networks.caffe.matconvnet import read_matconvnet
from uap_lightning.networks.caffe.release import MEAN, CaffeLayout, state_of
from uap_lightning.networks.target import TargetNetwork
from uap_lightning.networks.weights import check_file, load_into

_READERS = {".caffemodel": read_caffemodel, ".mat": read_matconvnet}


def released_network(
    layout: CaffeLayout, weights: str | None, sha256: str | None, cache_dir: str
) -> TargetNetwork:
    """A network with published weights: blue first, pixel units, minus the file's mean.

    Args:
        layout: the network and the names that files give to its layers.
        weights: a ``.caffemodel``, a ``.mat`` of MatConvNet, or a ``.safetensors`` that was
            converted from one of them.
        sha256: checksum that file must have.
        cache_dir: where the converted weights are kept, so that converting is done once.

    Raises:
        UapError: no file is given, or it does not hold weights of this network.
    """
    if weights is None:
        raise UapError(
            f"network.weights is not set and no package carries weights of {layout.name}: fetch "
            f"{layout.published}, and set network.weights=FILE."
        )
    path = Path(weights)
    if path.suffix not in (*_READERS, ".safetensors"):
        raise UapError(
            f"network.weights is {path}: expected the suffix .caffemodel, .mat (of MatConvNet) or "
            ".safetensors (converted from one of them); rename the file."
        )
    check_file(path, sha256)
    converted = path if path.suffix == ".safetensors" else _converted(layout, path, Path(cache_dir))
    tensors, _ = read_tensors(converted)
    mean = tensors.pop("mean", None)
    model = layout.build(_outputs(layout, tensors, converted))
    load_into(model, tensors, layout.name, converted)
    return TargetNetwork(
        model, layout.name, MEAN if mean is None else mean.float(), std=[1.0] * 3, bgr=True
    )


def _converted(layout: CaffeLayout, path: Path, cache_dir: Path) -> Path:
    """The safetensors file of these weights, written where it is missing."""
    digest = digest_of_file(path)
    converted = cache_dir / f"weights-{layout.name}-{digest[:20]}.safetensors"
    if not converted.is_file():
        state = state_of(_READERS[path.suffix](path), layout, path)
        about = {"network": layout.name, "source": path.name, "source_sha256": digest}
        write_tensors(converted, state, about)
    return converted


def _outputs(layout: CaffeLayout, tensors: dict[str, Tensor], path: Path) -> dict[str, int]:
    """The number of outputs of every module: those of the classifier, and its width, may vary."""
    for module in layout.namings[0]:
        if f"{module}.bias" not in tensors:
            raise UapError(
                f"{path} does not hold weights of {layout.name} ({module}.bias is missing): give "
                "the weights of this network, or choose the network that they belong to."
            )
    return {module: tensors[f"{module}.bias"].numel() for module in layout.namings[0]}
