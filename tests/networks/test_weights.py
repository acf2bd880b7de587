"""Files of weights: those that fit, and those that are refused."""

import copy

import pytest
import torch
from torch import nn

from uap_lightning.core.errors import UapError
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
