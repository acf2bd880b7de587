"""How a detector is fitted in front of a rectifier."""

import pytest
import torch

from uap_lightning.core.errors import UapError
from uap_lightning.detectors import ConvDetector, DctSvm, NoDetector, calibrate, fit_detector


def test_fitting_sees_what_the_rectifier_removed():
    removed = 5 * torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    perturbed = torch.arange(40) % 2 == 0
    removed[perturbed] *= 20
    images = torch.full((40, 3, 8, 8), 100.0)

    class Rectifier(torch.nn.Module):
        def forward(self, batch):
            return images[:10] - removed[self.start : self.start + 10]

    rectifier = Rectifier()

    def batches():
        for start in range(0, 40, 10):
            rectifier.start = start
            yield images[start : start + 10], perturbed[start : start + 10]

    detector = DctSvm(8)
    fit_detector(detector, rectifier, batches(), 40)
    assert ((detector(removed) > 0) == perturbed).all()


@pytest.mark.parametrize(("count", "batch", "most"), [(40, 7, 16), (40, 40, 9), (37, 5, 37)])
def test_more_images_than_fit_into_memory_come_in_even_parts_that_are_all_of_them(
    count, batch, most
):
    numbers = torch.arange(float(count)).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)

    class Parted:
        at_once, seen = most, []

        def features(self, difference):
            return difference[:, 0, 0]

        def fit_parts(self, parts, total):
            self.seen = [*parts]
            assert total == count

        def fit(self, features, perturbed):
            raise AssertionError

        __call__ = features

    class Nothing(torch.nn.Module):
        def forward(self, images):
            return torch.zeros_like(images)

    detector = Parted()
    split = zip(numbers.split(batch), (torch.arange(count) % 2 == 0).split(batch), strict=True)
    fit_detector(detector, Nothing(), split, count)
    sizes = [len(features) for features, _ in detector.seen]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    together = torch.cat([features[:, 0] for features, _ in detector.seen])
    assert together.tolist() == list(range(count))
    assert torch.cat([kinds for _, kinds in detector.seen]).tolist() == [
        number % 2 == 0 for number in range(count)
    ]


@pytest.mark.parametrize(("rate", "allowed"), [(0.0, 0), (0.02, 2), (0.1, 10), (0.999, 99)])
def test_the_threshold_lets_as_many_clean_images_pass_as_stated(rate, allowed):
    generator = torch.Generator().manual_seed(1)
    removed = torch.randn(100, 3, 8, 8, generator=generator) * torch.linspace(1, 9, 100)[
        torch.randperm(100, generator=generator)
    ].view(-1, 1, 1, 1)
    torch.manual_seed(0)
    detector = ConvDetector(width=2)
    detector.last.weight.data.abs_()

    class Rectifier(torch.nn.Module):
        def forward(self, images):
            return images - removed[images[:, 0, 0, 0].long()]

    numbers = torch.arange(100.0).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
    calibrate(detector, Rectifier(), torch.split(numbers, 30), rate)
    assert int((detector(removed) > 0).sum()) == allowed


def test_a_detector_without_a_threshold_is_told():
    with pytest.raises(UapError, match="NoDetector has no threshold"):
        calibrate(NoDetector(), torch.nn.Identity(), [torch.zeros(1, 3, 8, 8)], 0.1)
