"""``.caffemodel`` files: the logits of OpenCV's importer, from every kind of file."""

import pytest

from tests.networks.caffe.files import write_caffemodel
from tests.networks.caffe.networks import (
    loaded,
    pixels,
    relative_error,
)


def test_a_caffemodel_gives_the_logits_of_opencvs_importer(published):
    name, _, path, expected = published
    assert expected.std() > 1
    assert relative_error(loaded(name, path)(pixels()), expected) < 1e-3


@pytest.mark.parametrize("kind", [{"first_kind": True, "shape": False}, {"double": True}])
def test_every_kind_of_caffemodel_gives_the_same_logits(published, kind, tmp_path):
    name, layers, _, expected = published
    path = write_caffemodel(tmp_path / "w.caffemodel", layers, **kind)
    assert relative_error(loaded(name, path)(pixels()), expected) < 1e-3
