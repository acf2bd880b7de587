"""``.caffemodel`` files: the logits of OpenCV's importer, from every kind of file."""

import pytest

from tests.networks.caffe.files import write_caffemodel
from tests.networks.caffe.networks import (
    loaded,
    pixels,
    refused,
    relative_error,
)
from uap_lightning.networks.caffe.caffemodel import _net_parameter


def test_a_caffemodel_gives_the_logits_of_opencvs_importer(published):
    name, _, path, expected = published
    assert expected.std() > 1
    assert relative_error(loaded(name, path)(pixels()), expected) < 1e-3


@pytest.mark.parametrize("kind", [{"first_kind": True, "shape": False}, {"double": True}])
def test_every_kind_of_caffemodel_gives_the_same_logits(published, kind, tmp_path):
    name, layers, _, expected = published
    path = write_caffemodel(tmp_path / "w.caffemodel", layers, **kind)
    assert relative_error(loaded(name, path)(pixels()), expected) < 1e-3


@pytest.mark.parametrize("dim", [[-2, -3], [-1, 6], [2**62, 4, 6], [7]])
def test_a_shape_that_six_values_do_not_have_is_refused(dim, tmp_path):
    network = _net_parameter()()
    blob = network.layer.add(name="conv1").blobs.add(data=[bytes(24)])
    blob.shape.dim.extend(dim)
    path = tmp_path / "w.caffemodel"
    path.write_bytes(network.SerializeToString())
    refused("caffenet", path, r"has 6 values in the layer conv1: expected \(")
