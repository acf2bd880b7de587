"""Weights of Caffe's ``.caffemodel`` files."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from uap_lightning.core.errors import UapError
from uap_lightning.networks.caffe.release import Array, Release

_Field = descriptor_pb2.FieldDescriptorProto
_INT32, _INT64 = _Field.TYPE_INT32, _Field.TYPE_INT64
_STRING, _BYTES = _Field.TYPE_STRING, _Field.TYPE_BYTES

# The fields of caffe.proto that carry weights: name, number, and a type or a message. Packed
# floats and bytes look the same in a file; as bytes they need no Python object per number.
_MESSAGES: dict[str, list[tuple[str, int, int | str]]] = {
    "BlobShape": [("dim", 1, _INT64)],
    "BlobProto": [
        ("num", 1, _INT32),
        ("channels", 2, _INT32),
        ("height", 3, _INT32),
        ("width", 4, _INT32),
        ("data", 5, _BYTES),
        ("shape", 7, "BlobShape"),
        ("double_data", 8, _BYTES),
    ],
    "V1LayerParameter": [("name", 4, _STRING), ("blobs", 6, "BlobProto")],
    "LayerParameter": [("name", 1, _STRING), ("blobs", 7, "BlobProto")],
    "NetParameter": [("layers", 2, "V1LayerParameter"), ("layer", 100, "LayerParameter")],
}
_REPEATED = {"dim", "data", "double_data", "blobs", "layers", "layer"}


def read_caffemodel(path: Path) -> Release:
    """Read a ``.caffemodel`` with layers of the first kind (``layers``) or the present one.

    Raises:
        UapError: the file is truncated or no ``.caffemodel``.
    """
    network = _net_parameter()()
    try:
        network.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise UapError(
            f"{path} is not a readable .caffemodel ({error}): it may be truncated; put a whole "
            "copy in its place."
        ) from error
    layers = [*network.layers, *network.layer]
    if not any(layer.blobs for layer in layers):
        raise UapError(f"{path} holds no layer with weights: expected a trained .caffemodel.")
    return Release(
        layers={
            layer.name: [_array(path, layer.name, blob) for blob in layer.blobs]
            for layer in layers
            if layer.blobs
        },
        order=[layer.name for layer in layers],
    )


def _array(path: Path, layer: str, blob: Any) -> Array:
    content = b"".join(blob.double_data or blob.data)
    width = 8 if blob.double_data else 4
    if len(content) % width:
        raise UapError(
            f"{path} has a part of a number in the layer {layer}: put a whole copy in its place."
        )
    values = np.frombuffer(content, f"<f{width}").astype(np.float32, copy=False)
    shape = blob.shape.dim if blob.HasField("shape") else None
    shape = tuple(shape or (blob.num, blob.channels, blob.height, blob.width))
    if min(shape) < 0 or values.size != math.prod(shape):
        raise UapError(
            f"{path} has {values.size} values in the layer {layer}: expected {shape}; put "
            "a whole copy in its place."
        )
    return values.reshape(shape)


@cache
def _net_parameter() -> Any:
    """The class of Caffe's NetParameter, with the fields above."""
    file = descriptor_pb2.FileDescriptorProto(
        name="caffe_weights.proto", package="caffe", syntax="proto2"
    )
    for message, fields in _MESSAGES.items():
        description = file.message_type.add(name=message)
        for name, number, kind in fields:
            label = _Field.LABEL_REPEATED if name in _REPEATED else _Field.LABEL_OPTIONAL
            field = description.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))
