"""Moved patterns: what does not change, and how they are brought into step."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import scenes
from uap_lightning.streams.discovery import Discovery
from uap_lightning.streams.matching import scores, templates
from uap_lightning.streams.moving import Moves, in_step, moves_of, placed
from uap_lightning.streams.whitening import Whitener

SHIFTS = st.tuples(st.integers(0, 63), st.integers(0, 63))


@pytest.fixture(scope="module")
def whitener():
    return Whitener(64).fit(scenes(120, seed=1))


def pattern(seed=0):
    return 10 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(seed)).sign()


def attacked(images, rho, seed=0, *, flips=True):
    """Each with the pattern in a place of its own."""
    generator = torch.Generator().manual_seed(seed)
    shift = torch.randint(64, (len(images), 2), generator=generator)
    sign = 1.0 - 2.0 * torch.randint(2, (len(images),), generator=generator) * flips
    moves = Moves(shift, sign, torch.zeros(len(images)))
    laid = placed(rho.expand(len(images), -1, -1, -1), moves)
    return (images.float() + laid).round().clamp(0, 255).to(torch.uint8), laid


def observe(whitener, images, batch=6):
    discovery = Discovery(whitener)
    for part in torch.split(images, batch):
        discovery.observe(part, *whitener.describe(part))
    return discovery


@settings(max_examples=20, deadline=None)
@given(shift=SHIFTS, negative=st.booleans(), seed=st.integers(0, 1_000))
def test_a_description_stays_when_a_residual_is_moved(whitener, shift, negative, seed):
    residual = whitener(scenes(1, seed=seed))
    maps = residual.view(1, 3, 64, 64).roll(shift, (-2, -1)) * (-1 if negative else 1)
    before, after = whitener.descriptions(residual), whitener.descriptions(maps.flatten(1))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=0)
    assert float(before.norm()) == pytest.approx(1, abs=1e-4)


def test_images_are_described_as_their_residuals_are(whitener):
    images = scenes(6, seed=2)
    residuals, described = whitener.describe(images)
    assert torch.equal(residuals, whitener(images))
    torch.testing.assert_close(described, whitener.descriptions(residuals), atol=1e-4, rtol=0)


def test_neighbouring_amplitudes_by_hand(whitener):
    residual = whitener(scenes(1, seed=3))
    spectrum = torch.from_numpy(np.fft.fft2(residual.view(3, 64, 64).numpy()))
    amplitude = spectrum.abs()
    pairs = [(1 + 2 * k, 2 + 2 * k) for k in range(15)]
    differences = torch.stack(
        [(amplitude[..., a] - amplitude[..., b]) / (amplitude[..., a] + amplitude[..., b])
         for a, b in pairs], dim=-1,
    ).flatten()  # fmt: skip
    expected = (differences / differences.norm()).float()
    torch.testing.assert_close(whitener.descriptions(residual)[0], expected, atol=1e-4, rtol=0)


@settings(max_examples=20, deadline=None)
@given(shift=SHIFTS, negative=st.booleans())
def test_the_move_is_the_one_that_was_made(whitener, shift, negative):
    template = templates(whitener, pattern()[None])
    sign = -1.0 if negative else 1.0
    moved = sign * template.view(1, 3, 64, 64).roll(shift, (-2, -1))
    moves = moves_of(moved.flatten(1), template[0], 64)
    assert moves.shift.tolist() == [list(shift)]
    assert moves.sign.tolist() == [sign]
    # At that place the score is the inner product itself.
    assert float(moves.score) == pytest.approx(float(scores(template, template)), rel=1e-4)
    assert torch.equal(placed(template.view(1, 3, 64, 64), moves), moved)


def test_images_in_step_hold_the_pattern_in_one_place():
    images, rho = torch.full((5, 3, 64, 64), 100, dtype=torch.uint8), pattern().round()
    given_, _ = attacked(images, rho)
    generator = torch.Generator().manual_seed(0)
    shift = torch.randint(64, (5, 2), generator=generator)
    sign = 1.0 - 2.0 * torch.randint(2, (5,), generator=generator)
    stepped = in_step(given_, Moves(shift, sign, sign)).float()
    for image, of_sign in zip(stepped, sign.tolist(), strict=True):
        assert torch.equal(image - (100 if of_sign > 0 else 155), rho)


def test_a_pattern_that_moves_is_one_suspect_and_its_estimate_is_the_pattern(whitener):
    images, rho = scenes(60, seed=4), pattern()
    stream = images.clone()
    stream[::2], _ = attacked(images[::2], rho)
    discovery = observe(whitener, stream)
    [suspect] = discovery.suspects
    assert suspect.count == 30
    moves = moves_of(suspect.template[None], templates(whitener, rho[None])[0], 64)
    found = placed(rho[None], moves)[0]
    cosine = torch.nn.functional.cosine_similarity(suspect.pattern.flatten(), found.flatten(), 0)
    assert float(cosine) > 0.85


def test_without_descriptions_nothing_that_moves_is_looked_for(whitener):
    stream, _ = attacked(scenes(20, seed=5), pattern(), seed=2)
    discovery = Discovery(whitener)
    discovery.observe(stream, whitener(stream))
    assert not discovery.suspects


def test_a_scene_that_moves_is_no_evidence(whitener):
    scene = scenes(1, seed=6)[0]
    frames = torch.stack([scene.roll((3 * n, 2 * n), (-2, -1)) for n in range(12)])
    assert not observe(whitener, torch.cat([frames, 255 - frames])).suspects


def test_overlapping_crops_of_one_photograph_are_no_evidence(whitener):
    wide = scenes(1, size=80, seed=6)[0]
    places = [(0, 0), (1, 0), (3, 9), (7, 2), (12, 12), (16, 5), (2, 15), (9, 9)]
    crops = torch.stack([wide[:, y : y + 64, x : x + 64] for y, x in places])
    assert not observe(whitener, crops).suspects


def test_clean_streams_have_no_suspects_though_all_places_are_tried(whitener):
    images = scenes(150, seed=7)
    assert not observe(whitener, images).suspects
    _, described = whitener.describe(images)
    found = scores(described, described)
    upper = torch.triu(torch.ones_like(found, dtype=torch.bool), 1)
    rate = 1e-3
    above = float((found[upper] > whitener.spectral_null.threshold(rate)).double().mean())
    assert above < 3 * rate


def test_statistics_of_attacked_images_are_those_of_clean_ones_in_the_mirror():
    images = scenes(120, seed=8)
    clean = Whitener(64).fit(images)
    given_ = (images.float() + pattern()).round().clamp(0, 255).to(torch.uint8)
    told = Whitener(64).fit(given_, shifted=True).spectral_null
    untold = Whitener(64).fit(given_).spectral_null
    assert told.threshold(1e-4) < 2 * clean.spectral_null.threshold(1e-4)
    assert untold.threshold(1e-4) > 4 * clean.spectral_null.threshold(1e-4)
