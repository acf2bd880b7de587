"""Files of weights: those that fit, and those that are refused."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_tensors
from uap_lightning.networks.timm_classifier import timm_classifier
from uap_lightning.networks.torchvision_classifier import torchvision_classifier
from uap_lightning.networks.weights import digest_of_weights, load_into, read_weights


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


@pytest.mark.parametrize("classes", [0, -1, 10**9])
@pytest.mark.parametrize("load", [torchvision_classifier, timm_classifier])
def test_a_number_of_classes_that_no_classifier_has_is_told(load, classes):
    with pytest.raises(UapError, match=rf"network\.classes is {classes}: expected"):
        load("resnet18", "w.pth", classes=classes)


class Planted:
    """What unpickling would run."""

    def __reduce__(self):
        return Path.touch, (Path("planted"),)


def test_hostile_and_truncated_files_run_nothing_and_are_told(tmp_path):
    torch.save({"a": Planted()}, tmp_path / "p.pth")
    torch.save({"a": torch.zeros(100)}, tmp_path / "t.pth")
    write_tensors(tmp_path / "t.safetensors", {"a": torch.zeros(100)}, {})
    for name, share in (("p.pth", 1), ("t.pth", 0.5), ("t.pth", 0), ("t.safetensors", 0.5)):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(UapError, match=name) as caught:
            read_weights(path)
        assert "\n" not in str(caught.value)
    assert not Path("planted").exists()
