"""torchvision's classifiers: equal to torchvision's own pipeline, or with another input."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image

from tests.tiny import composed, pixels, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_tensors
from uap_lightning.data.folder import imagenet_wnids
from uap_lightning.jobs.config import build
from uap_lightning.networks.timm_classifier import timm_classifier
from uap_lightning.networks.torchvision_classifier import torchvision_classifier

SHARED = Path(__file__).resolve().parents[3] / "shared"


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
