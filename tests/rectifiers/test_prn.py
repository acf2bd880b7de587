"""The paper's rectifier: sizes as published, and its convolutions by hand."""

import pytest
import torch
from hydra.utils import instantiate

from tests.tiny import composed
from uap_lightning.rectifiers import PRN


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("option", "parameters"), [("prn_printed", 380_739), ("prn", 380_739), ("prn_authors", 372_163)]
)
def test_the_presets_have_the_parameters_of_section_4_1_and_of_the_authors(option, parameters):
    cfg = composed("train", "data=generated", "network=tiny", f"rectifier={option}")
    assert count(instantiate(cfg.rectifier.model)) == parameters


def test_the_prn_is_convolutions_by_hand():
    torch.manual_seed(0)
    prn = PRN(width=4, blocks=2, tail_width=3)
    x = torch.rand(2, 3, 8, 8) * 255

    def conv(layer, maps):
        padded = torch.nn.functional.pad(maps, (1, 1, 1, 1))
        out = torch.zeros(len(maps), len(layer.weight), 8, 8)
        for dy in range(3):
            for dx in range(3):
                window = padded[:, :, dy : dy + 8, dx : dx + 8]
                out += torch.einsum("ncyx,oc->noyx", window, layer.weight[:, :, dy, dx])
        return out + layer.bias[:, None, None]

    maps = conv(prn.head, (x - 127.5) / 127.5)
    for block in prn.body:
        maps = (maps + conv(block.second, conv(block.first, maps).clamp_min(0))).clamp_min(0)
    expected = conv(prn.tail[1], conv(prn.tail[0], maps)) * 127.5 + 127.5
    torch.testing.assert_close(prn(x), expected, rtol=1e-4, atol=1e-3)


def test_with_a_skip_training_starts_from_the_image_and_the_output_is_added():
    torch.manual_seed(0)
    prn = PRN(width=4, blocks=1, tail_width=3, output_scale=8.0, skip=True)
    x = torch.rand(2, 3, 8, 8) * 255
    assert torch.equal(prn(x), x)
    plain = PRN(width=4, blocks=1, tail_width=3, output_scale=8.0)
    torch.nn.init.normal_(prn.tail[1].weight)
    plain.load_state_dict(prn.state_dict())
    torch.testing.assert_close(prn(x) - x, plain(x) - 127.5, rtol=1e-5, atol=1e-3)
