"""Writers of the files that Caffe's and MatConvNet's networks are published in."""

import numpy as np
import scipy.io


def _varint(value):
    coded = bytearray()
    while value > 127:
        coded.append(value & 127 | 128)
        value >>= 7
    return bytes([*coded, value])


def _bytes_field(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number_field(number, value):
    return _varint(number << 3) + _varint(value)


def write_caffemodel(path, layers, *, first_kind=False, double=False, shape=True):
    """Protocol Buffers by hand, from the numbers in caffe.proto.

    ``first_kind``: the layers of Caffe's first two years. ``double``: double_data. ``shape``: the
    present field for it, or num, channels, height and width.
    """
    content = _bytes_field(1, b"network")
    for name, arrays in layers.items():
        blobs = b""
        for array in arrays:
            array = np.asarray(array)
            if shape:
                sides = b"".join(_varint(side) for side in array.shape)
                blob = _bytes_field(7, _bytes_field(1, sides))
            else:
                sides = (1,) * (4 - array.ndim) + array.shape
                blob = b"".join(_number_field(n, side) for n, side in enumerate(sides, start=1))
            values = array.astype("<f8" if double else "<f4").tobytes()
            blobs += _bytes_field(
                6 if first_kind else 7, blob + _bytes_field(8 if double else 5, values)
            )
        filters = arrays and np.ndim(arrays[0]) == 4
        if first_kind:
            kind = _number_field(5, 4 if filters else 14)  # CONVOLUTION, INNER_PRODUCT
            layer = _bytes_field(4, name.encode()) + kind + blobs
        else:
            kind = _bytes_field(2, b"Convolution" if filters else b"InnerProduct")
            layer = _bytes_field(1, name.encode()) + kind + blobs
        content += _bytes_field(2 if first_kind else 100, layer)
    path.write_bytes(content)
    return path


def matconvnet_arrays(layers, sides):
    """Caffe's arrays as MatConvNet keeps them: height x width x input x output, red first."""
    kept = {}
    for name, (weight, bias) in layers.items():
        if weight.ndim == 2:
            side = sides.get(name, 1)
            weight = weight.reshape(len(weight), -1, side, side)
        if not kept:
            weight = weight[:, ::-1]
        kept[name] = (np.asfortranarray(weight.transpose(2, 3, 1, 0)), bias.reshape(1, -1))
    return kept


def write_simplenn(
    path, layers, norms, *, sides, older=False, compressed=False, mean=None, classes=None
):
    """A SimpleNN ``.mat``; ``older``: before weights were in one cell and meta was a struct."""
    kept = []
    for name, (weight, bias) in matconvnet_arrays(layers, sides).items():
        layer = {"name": name, "type": "conv"}
        if older:
            layer |= {"filters": weight, "biases": bias}
        else:
            layer["weights"] = _cell([weight, bias])
        kept.append(layer)
        if name in norms:
            kind = "normalize" if older else "lrn"
            kept.append({"name": f"norm_{name}", "type": kind, "param": np.array([norms[name]])})
    meta = {"normalization": {"averageImage": [] if mean is None else mean}}
    meta["classes"] = {"name": _cell(classes or [])}
    content = {"layers": _cell(kept)} | (meta if older else {"meta": meta})
    scipy.io.savemat(path, content, oned_as="row", do_compression=compressed)
    return path


def write_dagnn(path, layers, norms, *, sides, mean=None, classes=None):
    """A DagNN ``.mat``: layers refer to params by name."""
    kept, params = [], []
    for name, (weight, bias) in matconvnet_arrays(layers, sides).items():
        named = [f"{name}_filter", f"{name}_bias"]
        kept.append((name, "dagnn.Conv", _cell(["x"]), _cell(["y"]), _cell(named), {"pad": 0.0}))
        params += list(zip(named, (weight, bias), strict=True))
        if name in norms:
            block = {"param": np.array([norms[name]])}
            kept.append((f"norm_{name}", "dagnn.LRN", _cell(["x"]), _cell(["y"]), _cell([]), block))
    fields = ("name", "type", "inputs", "outputs", "params", "block")
    meta = {"normalization": {"averageImage": [] if mean is None else mean}}
    meta["classes"] = {"name": _cell(classes or [])}
    content = {
        "layers": _structs(fields, kept),
        "params": _structs(("name", "value"), params),
        "meta": meta,
    }
    scipy.io.savemat(path, content, oned_as="row")
    return path


def _cell(items):
    cell = np.empty((1, len(items)), dtype=object)
    for number, item in enumerate(items):
        cell[0, number] = item
    return cell


def _structs(fields, rows):
    structs = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for number, row in enumerate(rows):
        structs[0, number] = row
    return structs
