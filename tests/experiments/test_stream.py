"""The stream's experiments on images, patterns and a network that are known."""

import math

import pytest
import torch

from experiments import stream, stream_attackers, stream_pairs, stream_protocol
from experiments.stream_generator import train_sampler
from experiments.stream_setting import Setting, answers, interval, load_patterns
from tests.jobs.test_perturbing import write_bank
from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import TensorImages
from uap_lightning.networks.tiny import tiny
from uap_lightning.perturbations.ball import Ball
from uap_lightning.streams.whitening import Whitener


@pytest.fixture(scope="module")
def whitener():
    return Whitener(64).fit(scenes(120, seed=1))


def pattern():
    return 10 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0)).sign()


def test_a_stream_counts_what_was_sent(whitener):
    network, images = tiny(), scenes(60, seed=2)
    setting = Setting(network, whitener, images, answers(network, images.float()), {}, None)
    walk = (setting, [pattern()], "plain")
    whole, windows = stream_protocol.walk(*walk, share=50, seed=0)
    assert (whole.false_alarms, whole.changed, whole.found) == (0, 0, 1)
    assert whole.n_clean + sum(window.n_images for window in windows) == 60
    assert windows[0].seen == 0
    assert all(window.suspected == 100 for window in windows[1:])
    assert all(window.acc_clean == 100 for window in windows)
    clean, none = stream_protocol.walk(*walk, share=0, seed=0)
    assert (clean.n_clean, clean.until, none) == (60, None, [])


def test_pairs_and_clean_pairs_are_counted(whitener):
    images = scenes(30, seed=3)
    first, *_ = stream_pairs.pairs_of(whitener, images, "one", pattern())
    assert (first.change, first.found, first.from_fourth) == ("none", 100.0, 100.0)
    clean = stream_pairs.clean_pairs(whitener, images)
    assert clean.count == 30 * 29 / 2
    assert clean.largest < first.least


def test_three_among_many_are_found_blind(whitener):
    row = stream_pairs.blind(whitener, scenes(60, seed=4), "one", pattern(), seed=0)
    assert (row.found, row.false_alarms, row.patterns) == (3, 0, 1)


def test_the_interval_is_that_of_a_ratio():
    right, clean = torch.rand(400) < 0.6, torch.ones(400, dtype=torch.bool)
    low, high = interval(right, clean, 0)
    share = float(right.double().mean())
    half = 1.96 * (share * (1 - share) / 400) ** 0.5
    assert low == pytest.approx(100 * (share - half), abs=1)
    assert high == pytest.approx(100 * (share + half), abs=1)


def test_the_curve_counts_answers_and_the_known_pattern_brings_them_back(whitener, monkeypatch):
    monkeypatch.setattr(stream, "LEARN", 40)
    network, images = tiny(), scenes(70, seed=5)
    setting = Setting(network, whitener, images, answers(network, images.float()), {}, None)
    points = stream.curve(setting, ("one", pattern(), "inf", 1.0), (16,), seed=0)
    none, known, after = points
    assert [point.seen for point in points] == [0, -1, 16]
    assert all(point.n_photographs == 30 for point in points)
    given = (images[40:].float() + pattern()).round().clamp(0, 255)
    right = answers(network, given) == setting.label[40:]
    assert none.relative == pytest.approx(100 * float(right.double().mean()))
    assert known.found == after.found == 100
    assert known.relative >= none.relative


@pytest.mark.parametrize("name", stream_attackers.VARIATIONS)
def test_every_variation_repeats_under_its_seed_and_leaves_the_pattern_alone(name):
    image, rho, others = scenes(1, seed=6)[0], pattern(), [pattern(), pattern().flip(1)]
    before = rho.clone()
    first, again = (
        stream_attackers.VARIATIONS[name](rho, image, others, torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert torch.equal(first, again)
    assert torch.equal(rho, before)
    assert first.shape == rho.shape
    limit = 10 + 6 * stream_attackers._NOISE if name == "noise" else 10 * 2**0.5
    assert 0 < float(first.abs().max()) <= limit


def test_contrast_spares_what_is_flat_and_a_mixture_is_new_each_time():
    generator = torch.Generator().manual_seed(0)
    image = scenes(1, seed=6)[0]
    image[:, :32] = 100
    scaled = stream_attackers.contrast(pattern(), image, [], generator)
    assert not scaled[:, :28].any()
    assert scaled[:, 36:].abs().mean() > 3
    others = [pattern(), pattern().flip(1)]
    one, two = (stream_attackers.mixture(pattern(), image, others, generator) for _ in range(2))
    assert not torch.equal(one, two)
    assert float(one.norm()) == pytest.approx(float(others[0].norm()), rel=1e-4)


def test_a_sampler_gives_each_image_a_perturbation_of_its_own_that_fools():
    """Means over three seeds: so few steps end elsewhere where a processor rounds otherwise."""
    network, images = tiny(), scenes(60, seed=8)
    clean = answers(network, images.float())
    fooled, alike = {}, {}
    for name, steps, diversity in (("untrained", 1, 1.0), ("trained", 60, 3.0), ("one", 60, 0.0)):
        measured = []
        for seed in range(3):
            given = (network, TensorImages(images), Ball(math.inf, 10.0), seed)
            vary = train_sampler(*given, steps=steps, diversity=diversity)
            chance, again = (torch.Generator().manual_seed(1) for _ in range(2))
            rhos = torch.stack([vary(pattern(), image, [], chance) for image in images])
            assert float(rhos.abs().max()) <= 10
            assert torch.equal(rhos[0], vary(pattern(), images[0], [], again))
            answer = answers(network, (images.float() + rhos).clamp(0, 255))
            flat = torch.nn.functional.normalize(rhos.flatten(1))
            pairs = torch.tril_indices(len(flat), len(flat), -1)
            similar = (flat @ flat.T)[pairs[0], pairs[1]].abs().mean()
            measured.append([float((answer != clean).double().mean()), float(similar)])
        fooled[name], alike[name] = torch.tensor(measured).mean(0).tolist()
    assert fooled["trained"] > fooled["untrained"] + 0.2
    assert alike["trained"] < 0.75 * alike["one"]


def test_many_patterns_are_all_different_and_begin_with_those_given():
    given = [pattern(), pattern().flip(1)]
    many = stream_protocol.distinct(given, 5, 0)
    assert all(torch.equal(a, b) for a, b in zip(many[:2], given, strict=True))
    assert len({rho.numpy().tobytes() for rho in many}) == 5
    assert stream_protocol.distinct(given, 1, 0) == given[:1]


def test_larger_perturbations_are_fitted_only_when_told(tmp_path):
    with pytest.raises(UapError, match="holds no perturbation file"):
        load_patterns(tmp_path, 64)
    rho = write_bank(tmp_path / "bank", size=64)
    name = "bank/train-0000"
    found, norm = load_patterns(tmp_path, 64)[name]
    assert torch.equal(found, rho)
    assert norm == "inf"
    with pytest.raises(UapError, match="a side of 64 and the images one of 32: add --fit crop"):
        load_patterns(tmp_path, 32)
    assert torch.equal(load_patterns(tmp_path, 32, "crop")[name][0], rho[:, :32, :32])
    blocks = rho.reshape(3, 32, 2, 32, 2).mean((2, 4))
    assert torch.allclose(load_patterns(tmp_path, 32, "resize")[name][0], blocks, atol=1e-5)
    with pytest.raises(UapError, match="a side of 64: expected at least 96"):
        load_patterns(tmp_path, 96, "resize")


def test_mirrored_photographs_keep_their_labels(whitener):
    images = scenes(5, seed=7)
    setting = Setting(tiny(), whitener, images, torch.arange(5), {}, None)
    twice = stream_protocol.mirrored(setting, 0)
    assert sorted(twice.label.tolist()) == sorted([*range(5)] * 2)
    for image, label in zip(twice.images, twice.label.tolist(), strict=True):
        assert torch.equal(image, images[label]) or torch.equal(image.flip(-1), images[label])
