"""The stages that commands share."""

import copy

import pytest
import torch
from torch import nn

from tests.tiny import QUICK_TRAIN, TINY, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.stages import build_trainer, check_labels, load_data_and_network, predicted
from uap_lightning.networks import TargetNetwork


class Centre(nn.Module):
    """Says the colour of one pixel; which one is no weight."""

    def __init__(self, row):
        super().__init__()
        self.row = row

    def extra_repr(self):
        return f"row={self.row}"

    def forward(self, x):
        return x[:, :, self.row, 0]


def test_predictions_are_kept_for_each_network_alone():
    data, _ = load_data_and_network(typed_config("craft", *TINY))
    wrapped = [
        TargetNetwork(Centre(row), name, [0.0] * 3, [1.0] * 3)
        for name, row in (("one", 0), ("one", 31), ("other", 0))
    ]
    # No weights at all: the digests of all three are the same.
    assert len({network.digest for network in wrapped}) == 1
    for network in wrapped:
        images = torch.stack([data.test.pixels(n) for n in range(len(data.test))]).float()
        expected = images[:, :, network.model.row, 0].argmax(1)
        for _ in range(2):
            assert torch.equal(predicted(network, data.test, data.cache_dir).prediction, expected)
    assert len(list(data.cache_dir.glob("predictions-*"))) == 4 + 3


def test_labels_of_another_network_are_refused():
    data, network = load_data_and_network(typed_config("craft", *TINY))
    check_labels(data, network)
    other = copy.copy(network)
    other.classes = lambda size: 3
    with pytest.raises(UapError, match="have class 7 and the network tiny has 3 classes"):
        check_labels(data, other)


@pytest.mark.parametrize(
    "setting",
    ["trainer.devices=0", "trainer.devices=-3", "trainer.devices=foo", "+trainer.strategy=none"],
)
def test_what_lightning_refuses_is_told_in_a_sentence(setting):
    with pytest.raises(UapError, match="trainer does not fit"):
        build_trainer(typed_config("train", *QUICK_TRAIN, setting))
