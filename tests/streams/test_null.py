"""The tail of clean scores against distributions whose quantiles are known."""

import pytest
import torch
from scipy import stats

from uap_lightning.streams.null import Null, fit_null


def test_a_threshold_is_the_quantile_of_a_known_tail():
    null = Null(0.0, 1.0, 3.0, 0.01, 0.1, 0.5)
    for rate in (1e-3, 1e-5, 1e-8):
        expected = 3 + stats.genpareto(0.1, scale=0.5).isf(rate / 0.01)
        assert null.threshold(rate) == pytest.approx(expected)
    assert null.threshold(0.5) == 3.0


@pytest.mark.parametrize("shape", [3.0, 8.0])
def test_the_tail_of_many_scores_extrapolates(shape):
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(200_000, generator=generator, dtype=torch.float64)
    law = stats.t(shape)
    null = fit_null(torch.from_numpy(law.ppf(uniform.numpy())))
    assert null.mean == pytest.approx(0, abs=0.02)
    # Never below what the law has, and not beyond reason above it.
    assert 0.75 * law.isf(1e-6) < null.threshold(1e-6) < 3 * law.isf(1e-6)


def test_a_light_tail_is_not_trusted():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(50_000, generator=generator)
    null = fit_null(scores)
    assert null.shape >= 0.1
    assert null.threshold(1e-8) > 1.0
