"""``.mat`` files of MatConvNet: the logits of the same weights in Caffe's file."""

import numpy as np
import pytest

from tests.networks.caffe.files import write_dagnn, write_simplenn
from tests.networks.caffe.networks import (
    SIDES,
    loaded,
    norms_of,
    pixels,
    relative_error,
)


@pytest.mark.parametrize("form", ["simplenn", "older", "dagnn"])
def test_a_mat_of_matconvnet_gives_the_same_logits(published, form, tmp_path):
    name, layers, _, expected = published
    # red first, height x width x channels
    settings = {"sides": SIDES, "mean": np.array([[[123.0, 117.0, 104.0]]])}
    if form == "dagnn":
        path = write_dagnn(tmp_path / "w.mat", layers, norms_of(name), **settings)
    else:
        settings |= {"older": form == "older", "compressed": name == "vggf"}
        path = write_simplenn(tmp_path / "w.mat", layers, norms_of(name), **settings)
    assert relative_error(loaded(name, path)(pixels()), expected) < 1e-3
