"""Sketches against signs compared one by one, and against full residuals."""

import math

import numpy as np
import pytest
import torch

from uap_lightning.streams.sketches import BITS, sketch, sketch_scores


def residuals(count, length, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, length, generator=generator))


def test_a_score_counts_agreeing_signs():
    some, others = residuals(3, 12_288, 0), residuals(4, 12_288, 1)
    order = torch.randperm(12_288, generator=torch.Generator().manual_seed(12_288))[:BITS]
    for row, one in enumerate(sketch_scores(sketch(some), sketch(others))):
        for column, found in enumerate(one):
            agree = int(((some[row] > 0) == (others[column] > 0))[order].sum())
            assert math.isclose(found, (2 * agree - BITS) / math.sqrt(BITS), abs_tol=1e-3)


def test_more_than_are_compared_together_are_each_compared_with_their_own():
    words = np.random.default_rng(0).integers(0, 2**63, (2_500, 4), dtype=np.uint64)
    found = sketch_scores(words[:3], words)
    for row, column in ((0, 0), (1, 1_023), (2, 1_024), (0, 2_048), (1, 2_499)):
        agreeing = 256 - (int.from_bytes(words[row]) ^ int.from_bytes(words[column])).bit_count()
        assert found[row, column] == pytest.approx((2 * agreeing - 256) / 16)
    assert sketch_scores(words[:3], words[:0]).shape == (3, 0)


def test_it_takes_a_kilobyte_and_follows_the_arcsine_law():
    plain, shared = residuals(200, 49_152, 0), residuals(1, 49_152, 1)
    words = sketch(plain)
    assert (words.dtype, words.nbytes) == (np.uint64, 200 * 1_024)
    clean = sketch_scores(words[:100], words[100:])
    assert abs(float(clean.mean())) < 0.1
    assert abs(float(clean.std()) - 1) < 0.05
    cosine = 0.5
    mixed = sketch((1 - cosine) ** 0.5 * plain + cosine**0.5 * shared)
    expected = 2 / math.pi * math.asin(cosine) * math.sqrt(BITS)
    found = sketch_scores(mixed[:100], mixed[100:])
    assert abs(float(found.mean()) - expected) < 1.5
