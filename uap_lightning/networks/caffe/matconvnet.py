"""Weights of MatConvNet's ``.mat`` files: SimpleNN and DagNN."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from uap_lightning.core.errors import UapError
from uap_lightning.networks.caffe.release import Array, Release


def read_matconvnet(path: Path) -> Release:
    """Read a network saved by MatConvNet.

    SimpleNN keeps arrays in its layers (``weights``, once ``filters`` and ``biases``); DagNN keeps
    them in ``params`` and their names in its layers. Filters are height x width x input x output
    in files and come out as Caffe has them; red and blue stay as they are, red first.

    Raises:
        UapError: the file is truncated, HDF5, or no network of MatConvNet.
    """
    content = _load(path)
    layers = _listed(content.get("layers"))
    if not layers or not all(isinstance(layer, dict) and "name" in layer for layer in layers):
        raise UapError(
            f"{path} holds no layers of MatConvNet ({', '.join(content) or 'it is empty'}): "
            "expected a network saved by vl_simplenn or DagNN."
        )
    try:
        values = {param["name"]: param["value"] for param in _listed(content.get("params"))}
        arrays = {layer["name"]: _arrays(path, layer, values) for layer in layers}
        meta = content.get("meta", content)
        return Release(
            layers={name: held for name, held in arrays.items() if held},
            order=[layer["name"] for layer in layers],
            norms={layer["name"]: found for layer in layers if (found := _norm(layer)) is not None},
            mean=_mean(meta),
            classes=[str(name) for name in _listed(_inside(meta, "classes", "name"))],
            rgb=True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UapError(
            f"{path} has a layer or a parameter that is not as MatConvNet saves it ({error}): put "
            "a whole copy in its place."
        ) from error


def _load(path: Path) -> dict[str, Any]:
    try:
        content = scipy.io.loadmat(path, simplify_cells=True)
    except NotImplementedError as error:
        raise UapError(
            f"{path} is a MATLAB 7.3 file, which is HDF5: load it in MATLAB and save it again "
            "with -v7."
        ) from error
    except Exception as error:  # a broken file ends loadmat in errors of many kinds
        raise UapError(
            f"{path} is not a readable .mat file ({' '.join(str(error).split())}): it may be "
            "truncated; put a whole copy in its place."
        ) from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _arrays(path: Path, layer: dict[str, Any], values: dict[str, Array]) -> list[Array]:
    if "filters" in layer:
        held = [layer["filters"], layer["biases"]]
    elif "weights" in layer:
        held = _listed(layer["weights"])
    else:
        names = _listed(layer.get("params"))
        missing = next((name for name in names if name not in values), None)
        if missing is not None:
            raise UapError(
                f"{path} has no {missing}, which its layer {layer['name']} refers to: put a whole "
                "copy in its place."
            )
        held = [values[name] for name in names]
    return [_as_caffe(np.asarray(array, np.float32)) for array in held]


def _as_caffe(array: Array) -> Array:
    """Output x input x height x width; filters of 1 x 1 have lost their sides to loadmat."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _norm(layer: dict[str, Any]) -> list[float] | None:
    """Size, k, alpha of one element and beta, of a normalisation across channels."""
    if layer.get("type") in ("normalize", "lrn"):
        return [float(value) for value in layer["param"]]
    if layer.get("type") == "dagnn.LRN":
        return [float(value) for value in layer["block"]["param"]]
    return None


def _mean(meta: dict[str, Any]) -> Array | None:
    """A mean of 3 channels, or a mean image as 3 x height x width; red first."""
    found = _inside(meta, "normalization", "averageImage")
    image = np.asarray(found if found is not None else [], np.float32)
    if image.size == 3:
        return image.reshape(3)
    return image.transpose(2, 0, 1) if image.ndim == 3 and image.shape[2] == 3 else None


def _inside(content: dict[str, Any], *keys: str) -> Any:
    found: Any = content
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _listed(value: Any) -> list[Any]:
    """A cell or struct array as a list: loadmat hands a single element out bare."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, np.ndarray)) else [value]
