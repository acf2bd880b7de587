"""From a published file to a state dict: names, mean, class order, and what is refused."""

import numpy as np
import pytest
import torch

from tests.networks.caffe.files import write_caffemodel, write_dagnn, write_simplenn
from tests.networks.caffe.networks import (
    SIDES,
    loaded,
    narrow,
    norms_of,
    pixels,
    random_layers,
    refused,
    relative_error,
)
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_tensors


def princeton(layer):
    """BVLC's name of a GoogLeNet layer as Princeton's model has it."""
    stem = {"conv1/7x7_s2": "conv1", "conv2/3x3_reduce": "reduction2"}
    stem |= {"conv2/3x3": "conv2", "loss3/classifier": "cls3_fc"}
    if layer in stem:
        return stem[layer]
    inception, branch = layer.removeprefix("inception_").split("/")
    number = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b").index(inception) + 1
    branches = {"1x1": "out0", "3x3": "out1", "5x5": "out2", "pool_proj": "out3"}
    branches |= {"3x3_reduce": "reduction1", "5x5_reduce": "reduction2"}
    return f"icp{number}_{branches[branch]}"


def test_googlenet_by_princetons_names_and_without_slashes(tmp_path):
    layers, path = narrow(tmp_path, "googlenet_bvlc")
    expected = loaded("googlenet_bvlc", path).model.state_dict()
    auxiliary = {"cls1_fc1": random_layers({"x": (8, 16)})["x"]}
    for number, rename in enumerate((princeton, lambda layer: layer.replace("/", "_"))):
        renamed = {rename(layer): arrays for layer, arrays in layers.items()} | auxiliary
        path = write_caffemodel(tmp_path / f"{number}.caffemodel", renamed)
        for key, tensor in loaded("googlenet_bvlc", path).model.state_dict().items():
            assert torch.equal(tensor, expected[key])


def test_a_mean_image_is_cropped_to_its_centre(tmp_path):
    layers, path = narrow(tmp_path)
    image = np.random.default_rng(1).uniform(90, 130, (227, 227, 3))
    norms = norms_of("caffenet")
    mat = write_simplenn(tmp_path / "w.mat", layers, norms, sides=SIDES, mean=image)
    network = loaded("caffenet", mat)
    centre = torch.from_numpy(image[1:225, 1:225].transpose(2, 0, 1)).float()
    # what is left of a pixel is the same when its mean is the reference one
    reference = torch.tensor([123.0, 117.0, 104.0])[:, None, None]
    expected = loaded("caffenet", path)(pixels() - centre + reference)
    assert relative_error(network(pixels()), expected) < 1e-4
    assert relative_error(network(pixels()), loaded("caffenet", path)(pixels())) > 1e-2
    with pytest.raises(UapError, match="does not take images of side 225"):
        network.classes(225)
    small = write_simplenn(tmp_path / "s.mat", layers, {}, sides=SIDES, mean=image[:200, :200])
    with pytest.raises(UapError, match=r"s\.mat has a mean image of 200 x 200"):
        loaded("caffenet", small)


def test_classes_come_out_in_the_order_of_their_wordnet_ids(tmp_path):
    layers, path = narrow(tmp_path)
    expected = loaded("caffenet", path)(pixels())
    order = np.random.default_rng(2).permutation(1000)
    layers["fc8"] = [array[order] for array in layers["fc8"]]
    mat = write_simplenn(
        tmp_path / "w.mat",
        layers,
        {},
        sides=SIDES,
        mean=np.array([[[123.0, 117.0, 104.0]]]),
        classes=[f"n{10_000_000 + 3 * number}" for number in order],
    )
    assert relative_error(loaded("caffenet", mat)(pixels()), expected) < 1e-5


def test_weights_of_another_network_name_the_layer(tmp_path):
    layers, path = narrow(tmp_path, "vggf")
    said = r"weights of caffenet: it has a weight of \(64, 3, 11, 11\) in its layer conv1"
    refused("caffenet", path, said)
    mat = write_simplenn(tmp_path / "w.mat", layers, {}, sides=SIDES)
    refused("caffenet", mat, said)
    refused("googlenet_bvlc", path, "has no weights of a layer reduction2")
    with_names = {"norm1": [], "pool1": []} | layers
    write_tensors(tmp_path / "w.safetensors", {"conv1.bias": torch.zeros(3)}, {})
    refused("vggf", tmp_path / "w.safetensors", r"conv2\.bias is missing")
    refused("vggf", write_caffemodel(tmp_path / "e.caffemodel", {"a": []}), "no layer with weights")
    assert loaded("vggf", write_caffemodel(tmp_path / "n.caffemodel", with_names))


def test_alexnet_is_not_taken_for_caffenet(tmp_path):
    layers, _ = narrow(tmp_path)
    for order, right in ((("norm1", "pool1"), False), (("pool1", "norm1"), True)):
        named = {"conv1": layers["conv1"]} | {name: [] for name in order} | layers
        path = write_caffemodel(tmp_path / f"{order[0]}.caffemodel", named)
        if right:
            loaded("caffenet", path)
        else:
            refused("caffenet", path, "has norm1 before pool1")


def test_another_normalisation_is_refused(tmp_path):
    layers, _ = narrow(tmp_path)
    for form in (write_simplenn, write_dagnn):
        # Caffe's alpha, which MatConvNet would take five times as strong
        path = form(tmp_path / "w.mat", layers, {"conv2": [5, 1, 1e-4, 0.75]}, sides=SIDES)
        refused("caffenet", path, "normalises by .* in its layer norm_conv2")


@pytest.mark.parametrize("missing", ["conv3", "fc8"])
def test_a_missing_layer_is_named(missing, tmp_path):
    layers, _ = narrow(tmp_path)
    arrays = layers.pop(missing)
    said = f"has no weights of a layer {missing}"
    refused("caffenet", write_caffemodel(tmp_path / "m.caffemodel", layers), said)
    refused("caffenet", write_simplenn(tmp_path / "m.mat", layers, {}, sides=SIDES), said)
    layers[missing] = arrays[:1]
    said = f"has 1 arrays in its layer {missing}"
    refused("caffenet", write_caffemodel(tmp_path / "b.caffemodel", layers), said)
