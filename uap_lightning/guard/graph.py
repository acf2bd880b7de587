"""The guard as one file: ONNX or torch.export.

Network, rectifier, DCT, SVM and decision become one graph with the input ``images`` (N x 3 x size x
size, RGB, 0-255; N may be 0) and the outputs of :data:`OUTPUTS`. No graph can refuse an image: one
with a value that is not finite or outside of 0-255 has NaN as logits and score, and counts as
perturbed. In half precision the rectifier's layers are halved like the network's: the scores then
differ a little from the guard's. ONNX needs ``pip install 'uap-lightning[export]'``; the file needs
onnxruntime alone.
"""

import copy
import importlib.util
import io
import json
import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from uap_lightning.core.errors import UapError
from uap_lightning.guard.guard import Guard

OUTPUTS = ("logits", "score", "perturbed", "rectified")
PIXELS = {"float32": torch.float32, "uint8": torch.uint8}


class GuardGraph(nn.Module):
    """The guard without the checks of its door, which no graph can hold."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self.guard = guard

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images (N x 3 x H x W, 0-255) to logits, score, decision and rectified images."""
        seen = self.guard.judge(images.float())
        if not images.is_floating_point():
            return seen.logits, seen.score, seen.perturbed, seen.rectified
        # A sum, because a runtime's smallest and largest of values may pass over NaN.
        beyond = torch.linalg.vector_norm(images - images.clamp(0, 255), 1, (1, 2, 3))
        invalid = ~(beyond == 0)
        logits = torch.where(invalid[:, None], torch.nan, seen.logits)
        score = torch.where(invalid, torch.nan, seen.score)
        return logits, score, seen.perturbed | invalid, seen.rectified


class HalfLayer(nn.Module):
    """A layer that computes in half precision, between float32 tensors."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.half()

    def forward(self, values: Tensor) -> Tensor:
        """What the layer returns, as float32."""
        result: Tensor = self.layer(values.half())
        return result.float()


def to_program(guard: Guard, pixels: torch.dtype, *, half: bool) -> ExportedProgram:
    """The guard as a torch.export program, for batches of any number of images.

    Args:
        guard: loaded from a folder; it is left as it is.
        pixels: type of its input, float32 or uint8.
        half: convolutions and linear layers, also the rectifier's, compute in half precision:
            the scores differ a little. The rest stays in float32: pixels of 0-255 have too few
            digits in half precision for I - R(I).

    Raises:
        UapError: the guard is not from a folder, or no graph can hold its network or rectifier.
    """
    size = guard.defense.size
    traced = copy.deepcopy(guard) if half else copy.copy(guard)
    traced.bf16 = False  # what this device computes in is not part of the graph
    graph = GuardGraph(traced).eval()
    if half:
        _halve(graph)
    images = torch.full((2, 3, size, size), 127, dtype=pixels)
    images = images.to(guard.network.mean.device)
    try:
        with torch.no_grad():
            return torch.export.export(graph, (images,), dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:  # what a network does that no graph can hold has no one type
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UapError(
            f"the guard of the network {guard.network.name} with the rectifier "
            f"{guard.defense.condition.get('rectifier')} cannot be exported ({reason}): "
            "torch.export needs forward passes that do not depend on the values of their tensors "
            "or on the batch's size."
        ) from error


def _halve(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            setattr(module, name, HalfLayer(child))
        elif not isinstance(child, nn.MultiheadAttention):  # it reads its layers' weights itself
            _halve(child)


def describe(guard: Guard, pixels: str, precision: int) -> dict[str, object]:
    """What a file says of itself: its input, network, condition and the defence's digest.

    ``classes`` is the network's own number; the condition has that of the network trained for.
    """
    return {
        "network": guard.network.name,
        "classes": guard.network.classes(guard.defense.size),
        "pixels": pixels,
        "size": guard.defense.size,
        "precision": precision,
        "condition": guard.defense.condition,
        "defense": guard.defense.digest,
    }


def to_onnx(program: ExportedProgram, record: dict[str, object]) -> bytes:
    """A program as the content of one ONNX file, with a record in its metadata.

    Raises:
        UapError: the packages are not installed, or ONNX has no form for an operation.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UapError(
            f"an ONNX file needs {' and '.join(missing)}: pip install 'uap-lightning[export]', or "
            "write a .pt2 file."
        )
    try:
        with warnings.catch_warnings():
            # The converter's own use of PyTorch.
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(
                program,
                input_names=["images"],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: "batch"},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        assert converted is not None
        converted.model.metadata_props["uap_lightning"] = json.dumps(record)
        content: bytes = converted.model_proto.SerializeToString()
    except (torch.onnx.errors.OnnxExporterError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UapError(
            f"the guard cannot be written as ONNX ({reason}): write a .pt2 file instead."
        ) from error
    return content


def to_pt2(program: ExportedProgram, record: dict[str, object]) -> bytes:
    """A program as the content of a ``.pt2`` file, with its record in ``uap_lightning.json``."""
    buffer = io.BytesIO()
    extra = {"uap_lightning.json": json.dumps(record)}
    with warnings.catch_warnings():
        # Buffers that are views, such as a mean for each channel, are stored whole and correctly.
        warnings.filterwarnings("ignore", "No complete tensor found")
        torch.export.save(program, buffer, extra_files=extra)
    return buffer.getvalue()
