"""Scores and templates against sums written out, and what subtracting leaves."""

import math

import pytest
import torch

from tests.tiny import scenes
from uap_lightning.streams import matching
from uap_lightning.streams.matching import explained, scores, templates
from uap_lightning.streams.whitening import Whitener


@pytest.fixture(scope="module")
def whitener():
    return Whitener(64).fit(scenes(120, seed=1))


def signs(seed=0, eps=8.0):
    return eps * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(seed)).sign()


def attacked(images, rho):
    return (images.float() + rho).round().clamp(0, 255)


def test_a_score_is_the_sum_of_products_times_the_root_of_their_number():
    some, others = torch.randn(3, 500), torch.randn(2, 500)
    found = scores(some, others)
    for row in range(3):
        for column in range(2):
            products = zip(some[row].tolist(), others[column].tolist(), strict=True)
            expected = math.fsum(a * b for a, b in products) * 500**0.5
            assert float(found[row, column]) == pytest.approx(expected, rel=1e-4)


def test_scores_of_independent_directions_have_a_deviation_of_one():
    some, others = torch.randn(200, 4_000), torch.randn(200, 4_000)
    found = scores(*(torch.nn.functional.normalize(one) for one in (some, others)))
    assert float(found.std()) == pytest.approx(1, abs=0.03)


def test_a_template_is_what_the_pattern_leaves_on_grey(whitener, monkeypatch):
    patterns = torch.stack([signs(0), signs(1, 2.0), torch.zeros(3, 64, 64)])
    found = templates(whitener, patterns)
    for pattern, template in zip(patterns[:2], found, strict=False):
        alone = whitener((127.5 + pattern)[None])[0]
        torch.testing.assert_close(template, alone / alone.norm(), atol=1e-6, rtol=0)
    assert not found[2].any()
    monkeypatch.setattr(matching, "_BATCH", 2)
    assert torch.equal(templates(whitener, patterns), found)


def test_the_template_finds_every_image_with_the_pattern_and_none_without(whitener):
    images = scenes(60, seed=2)
    filters = templates(whitener, torch.stack([signs(0, 4.0), signs(1, 4.0)]))
    threshold = whitener.null.threshold(1e-4)
    assert bool((scores(whitener(images), filters) < threshold).all())
    found = scores(whitener(attacked(images, signs(0, 4.0))), filters) > threshold
    assert bool(found[:, 0].all())
    assert not bool(found[:, 1].any())


def judged(whitener, images, pattern):
    filters = templates(whitener, pattern[None]).expand(len(images), -1)
    found = (whitener(images) * filters).sum(1) * filters.shape[1] ** 0.5
    patterns = pattern.expand(len(images), -1, -1, -1)
    return explained(whitener, images, patterns, filters, found), found


def test_images_with_all_of_a_pattern_are_told_from_those_with_a_part(whitener):
    images, rho = scenes(30, seed=3), signs()
    logo = torch.zeros(3, 64, 64)
    logo[:, 36:60, 20:60] = 25.0 * (signs(5)[:, 36:60, 20:60] > 0)
    threshold = whitener.null.threshold(1e-4)
    with_all, found = judged(whitener, attacked(images, logo + rho), logo + rho)
    assert bool(with_all.all())
    # A filter alone would take the users' own watermark for the attacker's pattern.
    with_part, found = judged(whitener, attacked(images, logo), logo + rho)
    assert float((found > threshold).double().mean()) > 0.5
    assert not bool(with_part.any())


def test_a_pattern_many_times_too_strong_is_not_taken_for_the_one_that_is_there(whitener):
    images, rho = scenes(20, seed=4), signs(0, 4.0)
    assert not bool(judged(whitener, attacked(images, rho), 12 * rho)[0].any())
    assert bool(judged(whitener, attacked(images, rho), 1.5 * rho)[0].all())
