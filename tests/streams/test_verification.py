"""Whether a pattern does harm, by a network whose answers are known."""

import pytest
import torch

from tests.tiny import scenes
from uap_lightning.streams.verification import kind_of, scrambled, verify

SIZE = 64


def generator():
    return torch.Generator().manual_seed(0)


def signs(eps=10.0):
    return eps * torch.randn(3, SIZE, SIZE, generator=generator()).sign()


def follows(rho, threshold):
    """A classifier that answers 1 where an image correlates with ``rho``."""
    return lambda images: ((images - 127) * rho).mean((1, 2, 3)).gt(threshold).long()


def test_a_pattern_that_moves_predictions_is_adversarial_and_its_scrambled_self_is_not():
    rho, clean = signs(), scenes(32, seed=1)
    predict = follows(rho, 50.0)
    verdict = verify(predict, rho, clean)
    assert (verdict.harmful, verdict.kind) == (True, "adversarial")
    assert verdict.changed == 1.0
    assert verdict.control < 0.2
    other = verify(predict, signs().flip(-1), clean)
    assert (other.harmful, other.changed, other.kind) == (False, 0.0, "without effect")


def test_where_anything_like_it_does_as_much_it_is_noise():
    rough = lambda images: (images.diff(dim=-1).abs().mean((1, 2, 3)) > 19).long()  # noqa: E731
    smooth = torch.nn.functional.avg_pool2d(scenes(32, seed=2).float(), 7, 1, 3)
    verdict = verify(rough, signs(20.0), smooth)
    assert (verdict.harmful, verdict.kind) == (True, "noise")
    assert verdict.control > 0.8


@pytest.mark.parametrize(("changes", "harmful"), [(0, False), (1, False), (2, True), (10, True)])
def test_from_fifteen_percent_of_the_predictions_on_it_is_harmful(changes, harmful):
    clean = torch.full((10, 3, SIZE, SIZE), 100.0)
    clean[:changes] += 1.0

    def predict(images):
        return ((images[:, 0, 0, 0] > 105) & (images[:, 0, 0, 0] < 120)).long()

    verdict = verify(predict, torch.full((3, SIZE, SIZE), 4.5), clean)
    assert (verdict.changed, verdict.harmful) == (changes / 10, harmful)


def test_a_scrambled_pattern_keeps_its_spectrum_and_loses_its_shape():
    rho = signs()
    other = scrambled(rho, 0)
    torch.testing.assert_close(
        torch.fft.rfft2(other).abs(), torch.fft.rfft2(rho).abs(), rtol=1e-3, atol=0.5
    )
    cosine = torch.nn.functional.cosine_similarity(rho.flatten(), other.flatten(), 0)
    assert abs(float(cosine)) < 0.05
    assert not torch.equal(other, scrambled(rho, 1))


def logo():
    rho = torch.zeros(3, SIZE, SIZE)
    rho[:, 20:32, 20:40] = 60
    return rho


def frame():
    rho = torch.zeros(3, SIZE, SIZE)
    rho[:, :6] = rho[:, -6:] = 40
    return rho


def blocks():
    tile = 6 * torch.randn(3, 8, 8, generator=generator())
    return tile.repeat(1, 8, 8)


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        (logo(), "local"),
        (frame(), "border"),
        (blocks(), "grid of 8"),
        (torch.randn(3, SIZE, SIZE, generator=generator()), "faint"),
        (torch.zeros(3, SIZE, SIZE), "faint"),
        (signs(), "without effect"),
    ],
)
def test_a_harmless_pattern_has_a_name(pattern, kind):
    assert kind_of(pattern) == kind
    assert verify(lambda images: torch.zeros(len(images)), pattern, scenes(8)).kind == kind
