"""timm's models with their own normalisation."""

import timm
import torch

from tests.tiny import pixels
from uap_lightning.networks.timm_classifier import timm_classifier


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
