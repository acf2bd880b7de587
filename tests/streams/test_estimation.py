"""The pattern that images share, against the pattern that was added and the plain mean."""

from itertools import product

import numpy as np
import pytest
import torch

from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.streams import estimation
from uap_lightning.streams.estimation import estimate
from uap_lightning.streams.whitening import opponent


def pattern(seed=0, eps=10.0):
    generator = torch.Generator().manual_seed(seed)
    return eps * torch.randn(3, 64, 64, generator=generator).sign()


def attacked(count, rho, seed=1):
    return (scenes(count, seed=seed).float() + rho).round().clamp(0, 255).to(torch.uint8)


def missed(found, rho):
    return float((found - rho).norm() / rho.norm())


def test_the_pattern_is_found_and_found_better_from_more_images():
    rho = pattern()
    errors = [missed(estimate(attacked(count, rho)), rho) for count in (4, 8, 32)]
    assert errors[0] < 0.65
    assert errors[1] < 0.5
    assert errors[2] < 0.3
    assert errors == sorted(errors, reverse=True)


def test_it_needs_a_fraction_of_the_images_that_the_mean_needs():
    rho = pattern()
    images = attacked(16, rho).float()
    mean = images.mean(0) - scenes(200, seed=9).float().mean(0)
    assert missed(estimate(images), rho) < 0.5 * missed(mean, rho)


def test_with_two_images_neither_is_taken_at_its_word():
    rho = pattern()
    # What is left of two images after their own mean seems half as varied as it is.
    assert missed(estimate(attacked(2, rho)), rho) < 0.9


def test_nothing_shared_is_nothing_found():
    found = estimate(scenes(16, seed=2))
    assert float(found.square().mean().sqrt()) < 0.35 * float(pattern().square().mean().sqrt())


def test_what_was_cut_off_at_black_and_white_is_left_out():
    rho = pattern()
    images = attacked(16, rho)
    plain = missed(estimate(images), rho)
    # Half of each image lies in the dark: its pattern is cut off there, in each at another place.
    clipped = images.clone()
    for number in range(16):
        rows = torch.arange(32).add(4 * number).remainder(64)
        dark = (rho[:, rows] + 1).round().clamp(0, 255)
        clipped[number][:, rows] = dark.to(torch.uint8)
    assert missed(estimate(clipped), rho) < plain + 0.15


def test_the_equations_are_solved(monkeypatch):
    torch.manual_seed(0)
    size = 6
    weights = [torch.rand(3, size, size) * estimation._edge(size, size, k) for k in range(4)]
    right = torch.randn(3, size, size)
    monkeypatch.setattr(estimation, "_STEPS", 200)
    found = estimation._solve(weights, right, torch.zeros(3, size, size), 5.0)
    # The prior as a matrix: the circular convolution with its transform, by explicit waves.
    place = torch.arange(size)
    frequency = torch.minimum(place, size - place) / size
    radius = (frequency[:, None] ** 2 + frequency**2).sqrt()
    prior = 1 / 5.0**2 + 1 / 2.5**2 / (1 + (radius / 0.03) ** 4)
    waves = torch.exp(2j * torch.pi * torch.outer(place, place) / size) / size**0.5
    waves = torch.kron(waves, waves)
    unlikely = (waves @ torch.diag(prior.flatten().to(waves.dtype)) @ waves.conj()).real
    for colour in range(3):
        # The same normal equations as a matrix, one column at a time, by explicit neighbours.
        matrix = unlikely.clone()
        for k, (down, along) in enumerate(((0, 1), (1, 0), (1, 1), (1, -1))):
            for row in range(size):
                for column in range(size):
                    to = (row + down, column + along)
                    if not (0 <= to[0] < size and 0 <= to[1] < size):
                        continue
                    difference = torch.zeros(size * size)
                    difference[row * size + column] = -1
                    difference[to[0] * size + to[1]] = 1
                    weight = weights[k][colour, row, column]
                    matrix += weight * difference.outer(difference)
        expected = torch.linalg.solve(matrix, right[colour].flatten())
        torch.testing.assert_close(found[colour].flatten(), expected, rtol=1e-3, atol=1e-3)


def test_a_derivative_counts_by_what_lies_around_it_in_its_image(monkeypatch):
    """Weights and right side of the second round, pixel by pixel."""
    size, count, chance = 5, 3, torch.Generator().manual_seed(1)
    guess = torch.randn(3, size, size, generator=chance)
    images = torch.randint(1, 255, (count, 3, size, size), generator=chance).to(torch.uint8)
    images[0, 1, 2, 2], images[1, 0, 0, 3] = 0, 255
    given = []

    def solved(weights, right, *_):
        given.append((torch.stack(weights), right))
        return guess

    monkeypatch.setattr(estimation, "_solve", solved)
    estimate(images)
    rotation = opponent()
    colours = torch.einsum("dc,nchw->ndhw", rotation, images.float()).numpy()
    whole = ((images > 0) & (images < 255)).all(1).numpy()
    neighbours = ((0, 1), (1, 0), (1, 1), (1, -1))
    weights, right = np.zeros((4, 3, size, size)), np.zeros((3, size, size))
    for k, (down, along) in enumerate(neighbours):
        for n in range(count):
            slopes, left = np.zeros((2, 3, size, size))
            known = np.zeros((size, size))
            for row, column in np.ndindex(size, size):
                to = (row + down, column + along)
                if max(to) < size and min(to) >= 0:
                    known[row, column] = whole[n, row, column] and whole[n, *to]
                    slopes[:, row, column] = colours[n, :, *to] - colours[n, :, row, column]
                    slope = guess[:, *to] - guess[:, row, column]
                    left[:, row, column] = slopes[:, row, column] - slope.numpy()
            for row, column in np.ndindex(size, size):
                if not known[row, column]:
                    continue
                # Beyond the edge, the pixels at it are taken again.
                around = [
                    (min(max(row + i, 0), size - 1), min(max(column + j, 0), size - 1))
                    for i, j in product((-1, 0, 1), repeat=2)
                ]
                seen = sum(known[place] for place in around)
                square = sum(known[place] * left[:, *place] ** 2 for place in around)
                weight = 1 / (1.5 * square / seen + 0.7**2)  # 1.5 = 3 / (3 - 1) images
                weights[k, :, row, column] += weight
                right[:, row, column] -= weight * slopes[:, row, column]
                right[:, row + down, column + along] += weight * slopes[:, row, column]
    found = given[1]
    np.testing.assert_allclose(found[0], weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], right, rtol=1e-4, atol=1e-4)


def test_one_image_tells_nothing():
    with pytest.raises(UapError, match="there is 1 image"):
        estimate(scenes(1))
