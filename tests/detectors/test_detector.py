"""How a detector is fitted in front of a rectifier."""

import torch

from uap_lightning.detectors import DctSvm, fit_detector


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
    fit_detector(detector, rectifier, batches())
    assert ((detector(removed) > 0) == perturbed).all()
