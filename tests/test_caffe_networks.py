"""CaffeNet, VGG-F and BVLC's GoogLeNet: equal to Caffe's networks, from every kind of file."""

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from tests.caffe_files import write_caffemodel, write_dagnn, write_simplenn
from tests.tiny import composed, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, read_tensors, write_tensors
from uap_lightning.jobs.config import build
from uap_lightning.networks.caffe import released_network
from uap_lightning.networks.caffe.caffenet import caffenet
from uap_lightning.networks.caffe.googlenet_bvlc import GoogLeNetBvlc, googlenet_bvlc
from uap_lightning.networks.caffe.vggf import vggf

PROTOTXT = Path(__file__).resolve().parents[2] / "shared" / "prototxt"
NARROW = 64
LOADERS = {"caffenet": caffenet, "vggf": vggf, "googlenet_bvlc": googlenet_bvlc}
DEFINITIONS = {
    "caffenet": "deploy_caffenet.prototxt",
    "vggf": "deploy_vgg_f.prototxt",
    "googlenet_bvlc": "deploy_googlenet.prototxt",
}
CAFFENET = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (NARROW, 9216),
    "fc7": (NARROW, NARROW),
    "fc8": (1000, NARROW),
}
VGGF = CAFFENET | {
    "conv1": (64, 3, 11, 11),
    "conv2": (256, 64, 5, 5),
    "conv3": (256, 256, 3, 3),
    "conv4": (256, 256, 3, 3),
    "conv5": (256, 256, 3, 3),
}
# size, k, alpha of one element (Caffe's over the size), beta: MatConvNet's convention
NORM = {
    "caffenet": [5, 1, 1e-4 / 5, 0.75],
    "vggf": [5, 2, 5e-4 / 5, 0.75],
    "googlenet_bvlc": [5, 1, 1e-4 / 5, 0.75],
}


def bvlc_layers():
    """Shapes of GoogLeNet's layers by BVLC's names, in Caffe's order."""
    shapes = {}
    for key, tensor in GoogLeNetBvlc().state_dict().items():
        if not key.endswith(".weight"):
            continue
        module = key.removesuffix(".weight")
        stem = {"conv1": "conv1/7x7_s2", "conv2_reduce": "conv2/3x3_reduce"}
        stem |= {"conv2": "conv2/3x3", "fc": "loss3/classifier"}
        if module not in stem:
            name, branch = module.removeprefix("inception.").split(".")
            stem[module] = f"inception_{name}/{branch.removeprefix('conv')}"
        shapes[stem[module]] = tuple(tensor.shape)
    return shapes


def random_layers(shapes, seed=0):
    """Weights that keep the size of their inputs, and biases that matter."""
    generator = np.random.default_rng(seed)
    layers = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        weight = generator.standard_normal(shape, np.float32) * np.float32(scale)
        layers[name] = [weight, 20 * generator.standard_normal(shape[0], np.float32)]
    return layers


SHAPES = {"caffenet": CAFFENET, "vggf": VGGF, "googlenet_bvlc": bvlc_layers()}
SIDES = {"fc6": 6}


@pytest.fixture(autouse=True)
def _little_left(tmp_path):
    """Weights are large, and pytest keeps the folders of three sessions."""
    yield
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()


def pixels(size=224):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(3)) * 255


def relative_error(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module", params=list(LOADERS))
def published(request, tmp_path_factory):
    """A network's name, its random layers, a .caffemodel of them, and its logits by OpenCV."""
    name = request.param
    if not PROTOTXT.is_dir():
        pytest.skip("needs the networks' definitions, which a shared folder holds")
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(1)
    folder = tmp_path_factory.mktemp(name)
    layers = random_layers(SHAPES[name])
    first_kind = name == "vggf"
    path = write_caffemodel(folder / "w.caffemodel", layers, first_kind=first_kind)
    definition = (PROTOTXT / DEFINITIONS[name]).read_text()
    definition = definition.replace("num_output: 4096", f"num_output: {NARROW}")
    for_judge = path
    if name == "vggf":
        # OpenCV reads no k: x / (2 + a)^b is 2^-b x / (1 + a / 2)^b, and conv2 and conv3 are linear
        definition = re.sub("alpha: 0.0005", "alpha: 0.00025", re.sub("k: 2", "", definition))
        halved = {
            layer: [weight * (2**-0.75 if layer in ("conv2", "conv3") else 1), bias]
            for layer, (weight, bias) in layers.items()
        }
        for_judge = write_caffemodel(folder / "judge.caffemodel", halved, first_kind=first_kind)
    narrow = folder / "deploy.prototxt"
    narrow.write_text(definition)
    judge = cv2.dnn.readNetFromCaffe(str(narrow), str(for_judge))
    blue_first = pixels()[:, [2, 1, 0]] - torch.tensor([104.0, 117.0, 123.0])[:, None, None]
    judge.setInput(blue_first.numpy())
    yield name, layers, path, torch.from_numpy(judge.forward().reshape(1, -1))
    shutil.rmtree(folder)


def loaded(name, path):
    return LOADERS[name](str(path), cache_dir="cache")


def test_a_caffemodel_gives_the_logits_of_opencvs_importer(published):
    name, _, path, expected = published
    assert expected.std() > 1
    assert relative_error(loaded(name, path)(pixels()), expected) < 1e-3


@pytest.mark.parametrize("kind", [{"first_kind": True, "shape": False}, {"double": True}])
def test_every_kind_of_caffemodel_gives_the_same_logits(published, kind, tmp_path):
    name, layers, _, expected = published
    path = write_caffemodel(tmp_path / "w.caffemodel", layers, **kind)
    assert relative_error(loaded(name, path)(pixels()), expected) < 1e-3


def norms_of(name):
    layers = ("conv1/7x7_s2", "conv2/3x3") if name == "googlenet_bvlc" else ("conv1", "conv2")
    return dict.fromkeys(layers, NORM[name])


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


@pytest.mark.parametrize("name", LOADERS)
def test_the_normalisation_is_caffes_formula(name, tmp_path):
    """x / (k + alpha / n * sum of squares of n neighbours) ** beta, for each channel."""
    path = write_caffemodel(tmp_path / "w.caffemodel", random_layers(SHAPES[name]))
    modules = loaded(name, path).modules()
    norms = [module for module in modules if isinstance(module, torch.nn.LocalResponseNorm)]
    assert norms
    maps = 100 * torch.randn(1, 7, 2, 3, generator=torch.Generator().manual_seed(0))
    size, k, alpha, beta = NORM[name]
    expected = torch.empty_like(maps)
    for channel in range(7):
        near = maps[:, max(channel - size // 2, 0) : channel + size // 2 + 1]
        scale = k + alpha * near.square().sum(1)
        expected[:, channel] = maps[:, channel] / scale**beta
    for norm in norms:
        torch.testing.assert_close(norm(maps), expected)


def narrow(tmp_path, name="caffenet", seed=0, **settings):
    layers = random_layers(SHAPES[name], seed)
    return layers, write_caffemodel(tmp_path / "w.caffemodel", layers, **settings)


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


def test_googlenet_takes_other_sizes_and_the_others_say_what_they_take(tmp_path):
    assert loaded("googlenet_bvlc", narrow(tmp_path, "googlenet_bvlc")[1]).classes(160) == 1000
    with pytest.raises(UapError, match=r"data\.crop is 160, which the network caffenet"):
        loaded("caffenet", narrow(tmp_path)[1]).classes(160)


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
    with pytest.raises(UapError, match=r"data\.crop is 225"):
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


def test_converting_is_done_once_and_its_file_can_be_given(tmp_path, monkeypatch):
    _, path = narrow(tmp_path)
    cfg = typed_config("train", "network=caffenet", f"network.weights={path}", "paths.cache_dir=c")
    network = build(cfg.network)
    (converted,) = Path("c").glob("weights-caffenet-*.safetensors")
    metadata = read_tensors(converted)[1]
    assert metadata["source_sha256"] == digest_of_file(path)
    assert metadata["source"] == "w.caffemodel"
    monkeypatch.setitem(released_network._READERS, ".caffemodel", None)
    again = build(cfg.network)
    given = caffenet(str(converted), digest_of_file(converted))
    for other in (again, given):
        assert torch.equal(other(pixels()), network(pixels()))
    with pytest.raises(UapError, match="has SHA-256"):
        caffenet(str(path), "0" * 64)


@pytest.mark.parametrize("name", LOADERS)
def test_gradients_reach_the_pixels_and_the_network_stays_frozen(name, tmp_path):
    network = loaded(name, narrow(tmp_path, name)[1])
    network.train()
    x = pixels().requires_grad_()
    logits = network(x)
    (gradient,) = torch.autograd.grad(logits[0, 3], x)
    assert gradient.abs().sum() > 0
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.modules())
    step = 1e-2 * gradient / gradient.norm()
    change = float(network(x.detach() + step)[0, 3] - network(x.detach() - step)[0, 3])
    assert math.isclose(change, 2e-2 * float(gradient.norm()), rel_tol=0.05)


def refused(name, path, said):
    with pytest.raises(UapError, match=said) as caught:
        loaded(name, path)
    message = str(caught.value)
    assert Path(path).name in message
    assert "\n" not in message


@pytest.mark.parametrize("name", LOADERS)
def test_without_weights_the_sentence_says_where_they_are(name):
    with pytest.raises(UapError, match=r"\.caffemodel.* set network\.weights=FILE"):
        build(composed("train", f"network={name}").network)


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


def test_truncated_files_are_told(tmp_path):
    layers, path = narrow(tmp_path)
    content = path.read_bytes()
    mats = [
        write_simplenn(tmp_path / "s.mat", layers, {}, sides=SIDES),
        write_simplenn(tmp_path / "o.mat", layers, {}, sides=SIDES, older=True),
        write_dagnn(tmp_path / "d.mat", layers, {}, sides=SIDES),
    ]
    for share in (0.999, 0.5, 0.001):
        path.write_bytes(content[: int(len(content) * share)])
        refused("caffenet", path, "is not a readable .caffemodel|has no weights of a layer")
    for mat in mats:
        content = mat.read_bytes()
        for share in (0.999, 0.5, 0.00002, 0):
            mat.write_bytes(content[: int(len(content) * share)])
            refused("caffenet", mat, r"is not a readable \.mat file|holds no layers of MatConvNet")


def test_files_of_another_kind_are_told(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"x")
    refused("caffenet", tmp_path / "w.pth", r"expected the suffix \.caffemodel, \.mat")
    refused("caffenet", tmp_path / "none.mat", "which is not a file")
    (tmp_path / "text.caffemodel").write_text("hello")
    refused("caffenet", tmp_path / "text.caffemodel", "is not a readable .caffemodel")
    scipy.io.savemat(tmp_path / "other.mat", {"r": np.zeros((2, 2)), "layers": np.zeros(3)})
    refused("caffenet", tmp_path / "other.mat", r"holds no layers of MatConvNet \(r, layers\)")
    # the header of MATLAB 7.3: version 2.0, little-endian
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    refused("caffenet", tmp_path / "new.mat", "is a MATLAB 7.3 file, which is HDF5")
    path = write_caffemodel(tmp_path / "short.caffemodel", {"conv1": [np.zeros((7, 9))]})
    path.write_bytes(path.read_bytes().replace(b"\x07\x09", b"\x07\x0a"))
    refused("caffenet", path, r"has 63 values in the layer conv1: expected \(7, 10\)")
