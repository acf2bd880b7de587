"""The stages of a search of a whole collection."""

import pytest
import torch

from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.streams import search
from uap_lightning.streams.null import fit_null
from uap_lightning.streams.search import (
    LEAST_MATCH,
    Filters,
    complete,
    discover,
    draw_sample,
    found_patterns,
    incomplete,
    pair_threshold,
    sample_size,
)
from uap_lightning.streams.suspects import RESERVOIR, Suspect
from uap_lightning.streams.whitening import Whitener

SIGNS = 8 * (2 * torch.randint(0, 2, (3, 64, 64), generator=torch.Generator().manual_seed(7)) - 1)


def attacked(images, which):
    made = images.clone()
    made[which] = (images[which].int() + SIGNS).clamp(0, 255).to(torch.uint8)
    return made


@pytest.fixture(scope="module")
def whitener():
    return Whitener(64).fit(scenes(60), shifted=True)


def test_a_sample_holds_each_photograph_once_and_none_of_one_colour():
    images = scenes(14)
    copies = images[:5].clone()
    copies[:, :, :3, :3] += 9  # nearly equal
    flat = torch.full((2, 3, 64, 64), 200, dtype=torch.uint8)
    given = [torch.cat([images[:7], flat]), torch.cat([copies, images[7:]])]
    assert torch.equal(draw_sample(given, 600), images)
    assert torch.equal(draw_sample(given, 12), images[:12])


def test_a_sample_ends_where_everything_is_alike():
    looked_at = []

    def batches():
        for number in range(1_000):
            looked_at.append(number)
            yield scenes(12, seed=0)

    assert len(draw_sample(batches(), 50)) == 12
    assert len(looked_at) == 17  # 4 x 50 images


def looked(whitener, images, *templates, batch=8):
    filters = Filters(whitener, templates, 1e-4)
    return [filters.look(some) for some in images.split(batch)]


@pytest.mark.parametrize("images", [scenes(2), scenes(1).repeat(40, 1, 1, 1)], ids=["2", "1"])
def test_too_few_photographs_are_refused_in_one_sentence(images):
    with pytest.raises(UapError, match=r"of \d different photographs .*at least 12.*add other"):
        draw_sample([images], 600)


def test_the_sample_is_smaller_for_larger_images():
    assert [sample_size(side) for side in (64, 224, 448, 1024)] == [600, 600, 150, 48]


def test_thresholds_have_a_margin_and_share_the_rate(whitener):
    assert pair_threshold(whitener, 0.1, 1) == search.LEAST_PAIR
    high = whitener.null.threshold(1e-12 / 20_000)
    assert pair_threshold(whitener, 1e-12, 10**9) == pytest.approx(high)
    assert Filters(whitener, [], 0.01).threshold == LEAST_MATCH
    two = [torch.zeros(3 * 64 * 64)] * 2
    assert Filters(whitener, two, 1e-30).threshold == pytest.approx(
        whitener.null.threshold(1e-30 / 2)
    )


def test_what_is_known_is_no_news(whitener):
    images = attacked(scenes(30, seed=3), [4, 11, 20])
    [suspect] = discover(whitener, looked(whitener, images), 1e-4)
    assert suspect.count == 3
    [pattern] = found_patterns([suspect])
    assert pattern.estimated == 3
    assert torch.cosine_similarity(pattern.rho.flatten(), SIGNS.flatten().float(), 0) > 0.6
    assert discover(whitener, looked(whitener, images, pattern.template), 1e-4) == []


def test_images_whose_pixels_were_gone_are_looked_for_again(whitener, monkeypatch):
    images = attacked(scenes(30, seed=3), [0, 10, 28])
    monkeypatch.setattr(search, "_WHOLE", 3 * 64**2 * 2)
    [suspect] = discover(whitener, looked(whitener, images), 1e-4)
    assert suspect.count > len(suspect.images)
    assert incomplete([suspect], seen_all=True)
    [seen] = looked(whitener, images, suspect.template, batch=len(images))
    carriers = [(images[n], which) for n, which in enumerate(seen.found) if which >= 0]
    complete(whitener, carriers, [suspect])
    assert len(suspect.images) == suspect.estimated == 3
    assert {image.sum().item() for image in suspect.images} == {
        images[n].sum().item() for n in (0, 10, 28)
    }


def test_a_suspect_that_has_all_its_images_is_complete(whitener):
    images = scenes(2)
    few = Suspect(images, torch.zeros(1), torch.zeros(1), 2)
    many = Suspect(images.repeat(RESERVOIR // 2, 1, 1, 1), torch.zeros(1), torch.zeros(1), 999)
    assert not incomplete([few, many], seen_all=True)
    assert incomplete([few], seen_all=False)
    assert not incomplete([many], seen_all=False)


def test_a_pair_below_the_margin_is_no_evidence(whitener, monkeypatch):
    images = attacked(scenes(30, seed=3), [4, 11, 20])
    monkeypatch.setattr(search, "LEAST_PAIR", 1e4)
    assert discover(whitener, looked(whitener, images), 1e-4) == []


def test_few_scores_do_not_make_a_tail_so_heavy_that_nothing_is_found():
    scores = torch.cat([torch.linspace(-2, 2, 1_200), torch.tensor([3.0, 3.1, 9.0, 30.0])])
    null = fit_null(scores)
    assert null.shape == 0.2
    assert null.threshold(1e-9) < 1_000
