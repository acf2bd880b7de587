"""What attacks minimise, by formula, image by image."""

import math

import pytest
import torch

from uap_lightning.attacks.losses import CLAMP, LOSSES


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(0)
    logits, clean = (3 * torch.randn(6, 5, generator=generator) for _ in range(2))
    return logits, clean, torch.tensor([0, 1, 2, 3, 4, 0])


def test_cosine(given):
    logits, clean, label = given
    expected = 0.0
    for a, b in zip(logits.tolist(), clean.tolist(), strict=True):
        inner = sum(x * y for x, y in zip(a, b, strict=True))
        lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
        expected += inner / lengths / 6
    assert float(LOSSES["cosine"](logits, clean, label)) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_is_turned_and_clamped(given):
    logits, clean, label = given
    logits[0, 0] = -200.0  # fooled beyond any doubt
    expected = 0.0
    for row, own in zip(logits.tolist(), label.tolist(), strict=True):
        entropy = math.log(sum(math.exp(v) for v in row)) - row[own]
        expected -= min(entropy, CLAMP) / 6
    found = LOSSES["cross_entropy"](logits.requires_grad_(), clean, label)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(found, logits)
    assert not gradient[0].any()
    assert gradient[1].any()


def test_margin(given):
    logits, clean, label = given
    expected = 0.0
    for row, own in zip(logits.tolist(), label.tolist(), strict=True):
        expected += (row[own] - max(v for k, v in enumerate(row) if k != own)) / 6
    assert float(LOSSES["margin"](logits, clean, label)) == pytest.approx(expected, rel=1e-5)
