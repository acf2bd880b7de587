"""The residual PRN: the identity at first, in range, of any size and any number of images."""

import pytest
import torch

from uap_lightning.rectifiers import ResidualPRN


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (15, 13)])
def test_the_residual_prn_starts_as_the_identity_at_any_size(size):
    x = torch.rand(2, 3, *size) * 255
    assert torch.equal(ResidualPRN(width=8, blocks=1)(x), x)


def test_the_residual_prn_stays_in_range():
    torch.manual_seed(0)
    prn = ResidualPRN(width=8, blocks=1)
    torch.nn.init.normal_(prn.tail.weight, std=5)
    rectified = prn(torch.rand(2, 3, 16, 16) * 255)
    assert rectified.min() >= 0
    assert rectified.max() <= 255


def test_the_blocks_of_pixels_are_torchs(monkeypatch):
    """What the first convolution is given is pixel_unshuffle of the image and its high-pass."""
    seen = []
    prn = ResidualPRN(width=8, blocks=1)
    prn.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 3, 16, 20) * 255
    prn(x)
    expected = torch.nn.functional.pixel_unshuffle((x - 127.5) / 64, 2)
    assert torch.equal(seen[0][:, :12], expected)


def test_no_image_gives_no_image():
    assert ResidualPRN(width=8, blocks=2)(torch.zeros(0, 3, 16, 16)).shape == (0, 3, 16, 16)


def test_with_context_one_half_of_an_image_tells_of_the_other():
    """The correction of a far pixel depends on what is elsewhere; without context it does not."""
    torch.manual_seed(0)
    x = torch.rand(1, 3, 96, 96) * 100 + 70
    other = x.clone()
    other[..., 64:] = torch.rand(1, 3, 96, 32) * 255
    for context in (False, True):
        prn = ResidualPRN(width=8, blocks=2, context=context)
        torch.nn.init.normal_(prn.tail.weight, std=0.1)
        for block in prn.coarse[1:3]:
            if context:
                torch.nn.init.normal_(block.context.second.weight)
        with torch.no_grad():
            apart = (prn(x) - prn(other))[..., :16].abs().max()
        assert (apart > 1e-3) == context


def test_context_starts_as_none_at_any_size():
    torch.manual_seed(0)
    plain = ResidualPRN(width=8, blocks=2)
    prn = ResidualPRN(width=8, blocks=2, context=True)
    missing, unexpected = prn.load_state_dict(plain.state_dict(), strict=False)
    assert all(".context." in name for name in missing)
    assert not unexpected
    for part in (plain, prn):
        torch.nn.init.constant_(part.tail.weight, 0.1)
    x = torch.rand(2, 3, 17, 13) * 255
    assert torch.allclose(prn(x), plain(x), atol=1e-4)
    assert prn(torch.zeros(0, 3, 16, 16)).shape == (0, 3, 16, 16)
