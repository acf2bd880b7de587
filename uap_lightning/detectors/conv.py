"""A learned detector: a small convolutional network on what the rectifier removed."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.core.errors import UapError
from uap_lightning.detectors.detector import check_kinds

# Differences are about this large, in pixel units.
_SPREAD = 4.0
_LARGEST = 64


class ConvDetector(nn.Module):
    """Says from I - R(I) whether an image was perturbed; above 0 it was.

    Three convolutions, the first two with stride 2, and the mean over all places of each map and of
    its square, which a linear layer weighs. Fitted by logistic regression with Adam, under the
    seed 0, on random flips. What is removed from a clean image follows its edges, what is removed
    from a perturbed one is everywhere alike, which a spectrum (section 4.3 of the paper) tells
    less of than the places do.

    Args:
        width: maps of the first convolution, 1-64; the others have twice as many.
        epochs: passes over the images it is fitted on.
        learning_rate: of Adam, falling along a cosine.
        stride: of the third convolution, 1 or 2: with 2 it looks at a fourth of the places, for
            little more than half of the arithmetic.

    Raises:
        UapError: a setting is out of its range.
    """

    bias: Tensor

    def __init__(
        self, width: int = 16, epochs: int = 12, learning_rate: float = 0.003, stride: int = 1
    ) -> None:
        super().__init__()
        if type(width) is not int or not 1 <= width <= _LARGEST:
            raise UapError(f"detector.width is {width!r}: expected 1 to {_LARGEST}.")
        if type(epochs) is not int or epochs < 1 or not 0 < learning_rate < 1:
            raise UapError(
                f"detector has epochs {epochs!r} and learning_rate {learning_rate!r}: expected at "
                "least 1 epoch, and a rate above 0 and below 1."
            )
        if type(stride) is not int or stride not in (1, 2):
            raise UapError(f"detector.stride is {stride!r}: expected 1 or 2.")
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.first = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.third = nn.Conv2d(2 * width, 2 * width, 3, stride=stride, padding=1)
        self.last = nn.Linear(4 * width, 1)
        self.register_buffer("bias", torch.zeros(()))

    def features(self, difference: Tensor) -> Tensor:
        """The difference itself, in half precision, N x (3 H W): to be kept for :meth:`fit`."""
        return difference.flatten(1).half()

    def forward(self, difference: Tensor) -> Tensor:
        """The score of each difference: N x 3 x H x W to N; above 0 means perturbed."""
        maps = functional.relu(self.first(difference / _SPREAD))
        maps = self.third(functional.relu(self.second(maps)))
        pooled = torch.cat([maps.mean((2, 3)), maps.square().mean((2, 3)).add(1e-6).sqrt()], 1)
        score: Tensor = self.last(pooled)[:, 0] + self.bias
        return score

    def fit(self, features: Tensor, perturbed: Tensor) -> None:
        """Fit on differences of clean and perturbed images.

        Args:
            features: N x (3 H W), from :meth:`features`.
            perturbed: which rows are of perturbed images (bool, N); both kinds must occur.

        Raises:
            UapError: all images are of one kind, or a feature is not finite.
        """
        check_kinds(features, perturbed)
        side = round((features.shape[1] / 3) ** 0.5)
        images = features.view(-1, 3, side, side)
        device = self.bias.device
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for layer in (self.first, self.second, self.third, self.last):
                fan = layer.weight[0].numel()
                drawn = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(drawn * (2 / fan) ** 0.5)
                layer.bias.zero_()  # type: ignore[union-attr]
            self.bias.zero_()
        self.requires_grad_(True)
        steps = self.epochs * -(-len(images) // 32)
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        with torch.enable_grad():
            for _ in range(self.epochs):
                order = torch.randperm(len(images), generator=generator)
                for block in torch.split(order, 32):
                    axes = (torch.rand(2, generator=generator) < 0.5).nonzero()[:, 0] + 2
                    given = images[block].to(device).float().flip(axes.tolist())
                    aim = perturbed[block].to(device).float()
                    loss = functional.binary_cross_entropy_with_logits(self(given), aim)
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
        self.requires_grad_(False)

    def raise_threshold(self, by: float) -> None:
        """Ask for a score that is higher by so much before an image counts as perturbed."""
        self.bias.sub_(by)
