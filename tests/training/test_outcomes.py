"""What becomes of each test image, against one image at a time."""

from dataclasses import fields

import pytest
import torch

from uap_lightning.detectors import DctSvm
from uap_lightning.guard.guard import Guard
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.results.metrics import Outcomes
from uap_lightning.training.outcomes import DefenseMetrics
from uap_lightning.training.outcomes import outcomes as outcomes_of


def test_outcomes_are_those_of_each_image_alone(network, images):
    torch.manual_seed(0)
    rectifier = ResidualPRN(8, 2)
    torch.nn.init.normal_(rectifier.tail.weight, std=0.2)
    detector = DctSvm(32)
    detector.weight.normal_()
    guard = Guard(network, rectifier.eval(), detector)
    x = images.take(range(5)).float()
    rho = torch.randn(5, 3, 32, 32).sign() * 10
    coin = torch.rand(5)
    outcomes = outcomes_of(
        guard,
        x,
        rho,
        photograph=torch.arange(5),
        perturbation=torch.arange(5) + 7,
        label=torch.arange(5),
        coin=coin,
    )
    assert outcomes.perturbation.tolist() == [7, 8, 9, 10, 11]
    for i in range(5):
        for image, raw, rectified, score in (
            (x[i], outcomes.clean, outcomes.rectified_clean, outcomes.score_clean),
            (
                (x[i] + rho[i]).clamp(0, 255),
                outcomes.perturbed,
                outcomes.rectified_perturbed,
                outcomes.score_perturbed,
            ),
        ):
            seen = guard.inspect(image[None])
            assert int(network(image[None]).argmax()) == int(raw[i])
            assert int(network(seen.rectified).argmax()) == int(rectified[i])
            assert float(seen.score) == pytest.approx(float(score[i]), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("batches", [1, 15, 16, 17, 100])
def test_many_batches_are_gathered_in_order_and_in_few_parts(batches):
    metrics = DefenseMetrics()
    names = [field.name for field in fields(Outcomes)]
    for batch in range(batches):
        values = torch.arange(3) + 3 * batch
        metrics.update(Outcomes(**{name: values + 1000 * n for n, name in enumerate(names)}))
        assert all(len(getattr(metrics, name)) < 16 for name in names)
    found = metrics.compute()
    for n, name in enumerate(names):
        assert torch.equal(found[name], torch.arange(3 * batches) + 1000 * n)
    metrics.reset()
    assert all(len(getattr(metrics, name)) == 0 for name in names)
