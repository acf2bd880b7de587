"""The fast residual PRN: the identity at first, in range, and what its first convolution gives."""

import pytest
import torch

from uap_lightning.core.errors import UapError
from uap_lightning.rectifiers import FastPRN


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (15, 13)])
def test_it_starts_as_the_identity_at_any_size(size):
    x = torch.rand(2, 3, *size) * 255
    assert torch.equal(FastPRN(width=8, coarse=8, blocks=1)(x), x)


def test_other_sides_are_continued_by_their_edge_and_cut_off_again():
    torch.manual_seed(0)
    prn = FastPRN(width=8, coarse=8, blocks=1)
    torch.nn.init.normal_(prn.tail.weight, std=0.1)
    x = torch.rand(2, 3, 15, 13) * 255
    whole = torch.cat([x, x[..., -1:].expand(-1, -1, -1, 3)], 3)
    whole = torch.cat([whole, whole[..., -1:, :]], 2)
    assert (prn(x) - x).abs().max() > 1
    assert torch.equal(prn(x), prn(whole)[..., :15, :13])


def test_it_stays_in_range_and_corrects_something():
    torch.manual_seed(0)
    prn = FastPRN(width=8, coarse=8, blocks=1)
    torch.nn.init.normal_(prn.tail.weight, std=5)
    x = torch.rand(2, 3, 16, 16) * 255
    rectified = prn(x)
    assert rectified.min() >= 0
    assert rectified.max() <= 255
    assert (rectified - x).abs().max() > 1


@pytest.mark.parametrize("sides", [(16, 20), (12, 32), (4, 8)])
def test_it_is_given_torchs_cells_of_what_the_mean_of_6_x_6_lacks_and_the_mean(sides):
    seen = []
    prn = FastPRN(width=8, coarse=8, blocks=1)
    prn.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 3, *sides) * 255
    prn(x)
    wide = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    mean = torch.nn.functional.avg_pool2d(wide, 6, 2)  # one for each cell of 2 x 2
    high = (x - mean.repeat_interleave(2, 2).repeat_interleave(2, 3)) / 12
    expected = torch.nn.functional.pixel_unshuffle(high.clamp(-4, 4), 2)
    torch.testing.assert_close(seen[0][:, :12], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[0][:, 12:], (mean - 127.5) / 64, atol=1e-4, rtol=0)


def test_in_bf16_it_is_still_given_what_is_faint():
    seen = []
    prn = FastPRN(width=8, coarse=8, blocks=1)
    prn.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 3, 16, 20) * 255
    prn(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prn(x)
    assert torch.equal(seen[0], seen[1].float())


def test_no_image_gives_no_image():
    assert FastPRN()(torch.zeros(0, 3, 16, 16)).shape == (0, 3, 16, 16)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"coarse": 257}, {"blocks": 21}, {"expansion": 9}])
def test_sizes_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(UapError, match=next(iter(wrong))):
        FastPRN(**wrong)
