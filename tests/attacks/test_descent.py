"""Momentum descent, against a plain loop in double precision."""

import math

import numpy as np
import pytest
import torch

from uap_lightning.attacks.descent import descend
from uap_lightning.perturbations.ball import Ball


@pytest.mark.parametrize("ball", [(math.inf, 4.0), (2.0, 9.0)])
def test_the_steps_follow_momentum_and_fall_to_zero(network, ball):
    p, eps = ball
    # Linear losses: the gradient of a step is what the table says, wherever rho is.
    gradients = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    gradients *= torch.tensor([1.0, 30.0, 0.1, 5.0, 1.0])[:, None, None, None]
    start = torch.full((3, 4, 4), 0.3)

    def loss(rho, numbers):
        return (gradients[numbers[0]] * rho).sum()

    found = descend(
        *(loss, start, [[0], [1], [2], [3], [4]], network, Ball(p, eps)),
        step_size=0.25,
        momentum=0.7,
        description="",
    )
    rho, velocity = start.detach().double().numpy(), np.zeros((3, 4, 4))
    for step, gradient in enumerate(gradients.double().numpy()):
        velocity = 0.7 * velocity + gradient / np.abs(gradient).mean()
        length = 0.25 * eps * (5 - step) / 5
        if p == 2:
            rho = rho - length * velocity / np.sqrt((velocity**2).sum())
            rho = rho * min(1, eps / np.sqrt((rho**2).sum()))
        else:
            rho = np.clip(rho - length * np.sign(velocity), -eps, eps)
    np.testing.assert_allclose(found.detach().numpy(), rho, atol=1e-4)
