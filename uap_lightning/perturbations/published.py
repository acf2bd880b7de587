"""Read perturbations that others have published, in whatever layout they chose."""

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_tensors
from uap_lightning.perturbations.ball import Ball

ORIENTATIONS = ("hwc", "whc", "chw", "cwh")
ORDERS = ("rgb", "bgr")
# Of an array that is read; a perturbation of 4096 x 4096 pixels has as many.
MAX_VALUES = 3 * 4096**2


@dataclass(frozen=True)
class ArrayLayout:
    """How a file holds its perturbation. Nothing of it is guessed.

    Attributes:
        orientation: the axes as stored, leading ones of length 1 left out: ``hwc``, ``whc``,
            ``chw`` or ``cwh``.
        order: of the channels, ``rgb`` or ``bgr``.
        scale: what the values are multiplied by to be in pixel units, 0-255.
        key: name of the array in the file, with dots for nested ones; None where the file holds
            a single array.
        offset: first row and column of the part that is used.
        size: side of that part in pixels; None for the whole.

    Raises:
        UapError: an option that does not exist, or a number out of its range.
    """

    orientation: str
    order: str
    scale: float = 1.0
    key: str | None = None
    offset: int = 0
    size: int | None = None

    def __post_init__(self) -> None:
        if self.orientation not in ORIENTATIONS or self.order not in ORDERS:
            raise UapError(
                f"the layout is {self.orientation} {self.order}: expected one of "
                f"{', '.join(ORIENTATIONS)}, and rgb or bgr."
            )
        whole = self.size is None or self.size > 0
        if not 0 < self.scale < float("inf") or self.offset < 0 or not whole:
            raise UapError(
                f"the layout has scale {self.scale}, offset {self.offset}, size {self.size}: "
                "expected a scale and a size above 0 and an offset of 0 or more."
            )


SOURCES = {
    # Moosavi-Dezfooli et al., CVPR 2017: precomputed/*.mat and python/data/universal.npy.
    "lts4_mat": ArrayLayout("hwc", "rgb", key="r"),
    "lts4_npy": ArrayLayout("hwc", "rgb"),
    # Borkar et al., CVPR 2020 (selective feature regeneration), Attack_samples/: written by
    # MATLAB as C x W x H where it is UAP, and by its own script elsewhere.
    "sfr_uap_h5": ArrayLayout("cwh", "bgr", key="v"),
    "sfr_sfool_h5": ArrayLayout("chw", "bgr", key="v", offset=1, size=224),
    "sfr_spgd_h5": ArrayLayout("chw", "bgr", key="v"),
    "sfr_gap_h5": ArrayLayout("chw", "rgb", scale=16.0, key="v", offset=30, size=224),
    # Mopuri et al., BMVC 2017 (fast feature fool) and TPAMI 2019 (GD-UAP): added to BGR input.
    "fff_npy": ArrayLayout("hwc", "bgr"),
    "fff_227_npy": ArrayLayout("hwc", "bgr", offset=1, size=224),
    "gd_uap_npy": ArrayLayout("hwc", "bgr"),
    # The port of GD-UAP to PyTorch: values 0-1.
    "gd_uap_torch_npy": ArrayLayout("chw", "rgb", scale=255.0),
    # Mopuri et al., CVPR 2018 (NAG): added before the flip to BGR.
    "nag_npy": ArrayLayout("hwc", "rgb"),
    # Co et al., 2021 (sgd-uap-torch): values 0-1.
    "sgd_uap_pth": ArrayLayout("chw", "rgb", scale=255.0),
    # Zhang et al., CVPR 2020 (uap_virtual_data.pytorch), checkpoint.pth.tar: values 0-1.
    "uap_virtual_data_pth": ArrayLayout("chw", "rgb", scale=255.0, key="state_dict.uap"),
    # Akhtar et al., CVPR 2018: what the authors' training reads.
    "prn_npy": ArrayLayout("hwc", "rgb"),
}


def read_published(path: Path, layout: ArrayLayout, norm: Ball) -> Tensor:
    """Read one perturbation as float32, 3 x H x W, RGB, pixel units.

    Args:
        path: ``.mat`` (before 7.3), ``.npy``, ``.h5``, ``.pth``, ``.pt``, ``.tar`` or
            ``.safetensors``.
        layout: how the file holds it.
        norm: the ball that it was made for; it must lie in it and reach half of its radius at
            least, so that a wrong scale or norm is noticed. Rounding up to a thousandth beyond
            the ball is brought back.

    Raises:
        UapError: the file cannot be read, or its shape, scale or norm is not the one stated.
    """
    values = torch.from_numpy(_read_array(path, layout.key))
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    stored = tuple(values.shape)
    axes = [layout.orientation.index(axis) for axis in "chw"]
    if values.ndim != 3 or values.shape[axes[0]] != 3:
        raise UapError(
            f"{path} holds an array of shape {stored}: expected three axes "
            f"{' x '.join(layout.orientation.upper())} with 3 channels; state its orientation."
        )
    values = values.permute(axes)
    size = min(values.shape[1:]) if layout.size is None else layout.size
    end = layout.offset + size
    if not 0 < end <= min(values.shape[1:]) or (
        layout.size is None and values.shape[1] != values.shape[2]
    ):
        raise UapError(
            f"{path} holds a perturbation of {values.shape[1]} x {values.shape[2]} pixels: "
            f"expected a square one of at least {end} pixels; state its offset and size."
        )
    values = values[:, layout.offset : end, layout.offset : end]
    values = values.flip(0) if layout.order == "bgr" else values
    rho = (values * layout.scale).float()
    reached = float(norm.size(rho)) / norm.eps
    if not 0.5 <= reached <= 1.001:  # also false for NaN
        name = "l_2" if norm.p == 2 else "l_inf"
        raise UapError(
            f"{path} has {name} norm {reached * norm.eps:.6g} in pixel units: expected up to "
            f"{norm.eps:.6g} and at least half of it; state the scale of its values, or the norm "
            "and eps that it was made for."
        )
    return norm.project(rho).contiguous()


def _read_array(path: Path, key: str | None) -> Any:
    """The array of this key in the file, or the only one, as float64."""
    try:
        return _numbers(_chosen(_read_content(path), path, key), path)
    except UapError:
        raise
    except Exception as error:  # each reader has errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = re.sub(r" object at 0x[0-9a-f]+", "", reason)  # an address says nothing
        raise UapError(
            f"{path} cannot be read as {path.suffix or 'a file without a suffix'} ({reason}): "
            "expected a whole .mat, .npy, .h5, .pth, .pt, .tar or .safetensors file."
        ) from error


def _chosen(content: Any, path: Path, key: str | None) -> Any:
    """What has this key in the content of a file, or the only thing."""
    if key is None and not isinstance(content, dict):
        return content
    rest = key if key is not None else next(iter(content), "")
    while rest:
        names = list(content) if isinstance(content, dict) else []
        # A name may hold dots itself: the longest one that is there is meant.
        ends = [len(rest), *(i for i in range(len(rest) - 1, 0, -1) if rest[i] == ".")]
        part = next((rest[:end] for end in ends if rest[:end] in names), None)
        if part is None or (key is None and len(names) > 1):
            raise UapError(
                f"{path} holds {', '.join(map(str, names)) or 'a single array'}: expected "
                f"{key or 'a single array'}; state the key of the perturbation."
            )
        content, rest = content[part], rest[len(part) + 1 :]
    return content


def _read_content(path: Path) -> Any:
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    match path.suffix:
        case ".mat":
            for name, shape, _ in scipy.io.whosmat(path):
                _check_count(math.prod(shape), f"{name} of shape {shape}")
            content = scipy.io.loadmat(path)
            return {name: value for name, value in content.items() if not name.startswith("__")}
        case ".npy":
            # Mapped: what a header claims is compared with the file, and no room is made for it.
            return np.load(path, mmap_mode="r", allow_pickle=False)
        case ".h5" | ".hdf5":
            return _read_hdf5(path)
        case ".pth" | ".pt" | ".tar":
            # Some checkpoints carry their command line, which is only names and values.
            with torch.serialization.safe_globals([argparse.Namespace]):
                return torch.load(path, map_location="cpu", weights_only=True)
        case ".safetensors":
            return read_tensors(path)[0]
    raise ValueError("no reader for this suffix")


def _read_hdf5(path: Path) -> dict[str, Any]:
    try:
        import h5py  # an extra of its own: only these files need it
    except ImportError as error:
        raise UapError(
            f"{path} needs h5py, which is not installed: pip install 'uap-lightning[formats]'."
        ) from error
    with h5py.File(path) as file:
        return _read_group(file)


def _read_group(group: Any) -> dict[str, Any]:
    """The arrays of an HDF5 group by name, and those of its groups in dictionaries."""
    content: dict[str, Any] = {}
    for name, item in group.items():
        if hasattr(item, "keys"):
            content[name] = _read_group(item)
        else:
            _check_count(item.size or 0, f"{name} of shape {item.shape}")
            content[name] = np.asarray(item)
    return content


def _check_count(count: int, what: str) -> None:
    """Refuse to make room for more values than a perturbation has."""
    if count > MAX_VALUES:
        raise ValueError(f"it claims {what}, {count} values, and at most {MAX_VALUES} are read")


def _numbers(content: Any, path: Path) -> Any:
    """An array of floating-point numbers as float64."""
    shape = tuple(getattr(content, "shape", ()))
    _check_count(math.prod(shape), f"an array of shape {shape}")
    if isinstance(content, Tensor):
        # numpy has no bfloat16; whole numbers stay what they are, and are refused below.
        content = content.detach()
        content = (content.float() if content.is_floating_point() else content).numpy()
    if not isinstance(content, np.ndarray) or content.dtype.kind != "f":
        found = content.dtype if isinstance(content, np.ndarray) else type(content).__name__
        raise UapError(f"{path} holds {found}: expected floating-point numbers; state the key.")
    return np.array(content, dtype=np.float64)
