"""Which pattern a search would have found, against a count of the pairs."""

from itertools import combinations

import pytest
import torch

from tests.tiny import scenes
from uap_lightning.streams.power import LEVELS, smallest_found
from uap_lightning.streams.whitening import Whitener


@pytest.fixture(scope="module")
def whitener():
    return Whitener(64).fit(scenes(60), shifted=True)


def share_found(whitener, images, level, threshold):
    """The share of pairs above the threshold, pair by pair, in NumPy."""
    coarse = torch.randint(0, 2, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    perturbed = (images.numpy().astype(float) + level * (2 * coarse.numpy() - 1)).clip(0, 255)
    residuals = whitener(torch.from_numpy(perturbed.round()).float()).double().numpy()
    products = [float(a @ b) * (3 * 64 * 64) ** 0.5 for a, b in combinations(residuals, 2)]
    return sum(product > threshold for product in products) / len(products)


def test_it_is_the_smallest_level_at_which_nearly_all_pairs_are_found(whitener):
    images, seen = scenes(8, seed=9), set()
    for threshold in (10.0, 30.0, 50.0, 70.0, 80.0, 90.0):
        found = smallest_found(whitener, images, threshold)
        enough = [n for n in LEVELS if share_found(whitener, images, n, threshold) >= 0.95]
        assert found == (min(enough) if enough else None)
        seen.add(found)
    assert len(seen) > 2


def test_nothing_is_found_above_every_score(whitener):
    assert smallest_found(whitener, scenes(4, seed=9), 1e4) is None


def test_a_sign_fills_a_square_of_pixels_and_images_are_whole_numbers():
    given = []

    class Looking(Whitener):
        def forward(self, images):
            given.append(images)
            return super().forward(images)

    images = torch.full((2, 3, 64, 64), 3, dtype=torch.uint8)
    smallest_found(Looking(64), images, 1e4, grain=5)
    assert len(given) == len(LEVELS)
    for level, batch in zip(LEVELS, given, strict=True):
        assert sorted(batch.unique().tolist()) == [float(max(0, 3 - level)), float(3 + level)]
        assert torch.equal(batch[0], batch[1])
        squares = batch[0, :, :60, :60].unfold(1, 5, 5).unfold(2, 5, 5).flatten(3)
        assert bool((squares == squares[..., :1]).all())
    assert not torch.equal(given[0][0, 0, :, :5], given[0][0, 0, :, 5:10])
