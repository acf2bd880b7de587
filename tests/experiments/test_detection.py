"""Measures of a detector by brute force."""

import pytest
import torch

from experiments.detection import area, hits


def test_area_and_hits_count_pairs_and_places():
    generator = torch.Generator().manual_seed(0)
    clean, perturbed = (torch.randn(200, generator=generator) + shift for shift in (0, 1.5))
    pairs = (perturbed[:, None] > clean).double().mean()
    assert area(clean, perturbed) == pytest.approx(float(pairs))
    for rate in (0.01, 0.05):
        # by brute force: the most that a threshold finds at no more false alarms than stated
        best = max(
            float((perturbed > cut).double().mean())
            for cut in clean
            if float((clean > cut).double().mean()) <= rate
        )
        assert hits(clean, perturbed, rate) == pytest.approx(best)
