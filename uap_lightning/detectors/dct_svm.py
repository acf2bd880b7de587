"""The paper's detector: a linear SVM on the log-absolute DCT of what the rectifier removed."""

import warnings
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.core.dct import dct_matrix
from uap_lightning.core.errors import UapError
from uap_lightning.detectors.detector import check_kinds

GREY = (0.299, 0.587, 0.114)
FLOOR = 1e-3
LARGEST = 1024
AT_ONCE = 1_000 * 224**2  # features
_NEWTON = 50  # steps at most


class DctSvm(nn.Module):
    """D = B(F(I - R(I))) of section 4.3; a score above 0 means perturbed.

    F turns the difference grey (ITU-R 601 weights), takes its two-dimensional orthonormal
    DCT-II and the logarithm of the absolute coefficients, floored at 1e-3 so that a zero has a
    logarithm. B is a linear SVM on standardised features. scikit-learn fits it; its weights are
    kept as buffers, so that it is saved without pickle and exports with the rest.

    Args:
        size: side of the images in pixels, 1-1024.
        pool: the features are averaged over blocks of pool x pool coefficients; 1 is the
            paper's. A small collection needs fewer features than it has images.
        c: inverse strength of the SVM's regularisation (C of scikit-learn's ``LinearSVC``).

    Raises:
        UapError: ``size`` is out of its range, ``pool`` does not divide it, or ``c`` is not
            positive.
    """

    transform: Tensor
    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    grey: Tensor

    def __init__(self, size: int, pool: int = 1, c: float = 1.0) -> None:
        super().__init__()
        if type(size) is not int or not 1 <= size <= LARGEST:
            raise UapError(f"detector.size is {size!r}: expected 1 to {LARGEST} pixels.")
        if type(pool) is not int or pool < 1 or size % pool:
            raise UapError(
                f"detector.pool is {pool!r}: expected a divisor of the image side {size}, such "
                "as 1."
            )
        if c <= 0:
            raise UapError(f"detector.c is {c}: expected a number above 0, such as 1.")
        self.pool = pool
        self.c = c
        features = (size // pool) ** 2
        self.register_buffer("grey", torch.tensor(GREY).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("transform", dct_matrix(size), persistent=False)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("weight", torch.zeros(features))
        self.register_buffer("bias", torch.zeros(()))

    def features(self, difference: Tensor) -> Tensor:
        """F: differences I - R(I), N x 3 x H x W in pixel units, to N x features.

        Raises:
            UapError: the images have another side than the detector was made for.
        """
        size = len(self.transform)
        if difference.shape[-2:] != (size, size):
            raise UapError(
                f"images are {difference.shape[-2]} x {difference.shape[-1]}: expected "
                f"{size} x {size}, the size the detector was fitted on; crop or resize them."
            )
        # Matrices in double: whether a GPU multiplies float32 ones with ten bits of mantissa or
        # with 23 is a switch of its process. Apple's GPUs have neither double nor that switch.
        kind = torch.float32 if difference.device.type == "mps" else torch.float64
        grey, transform = (difference * self.grey).sum(1), self.transform.to(kind)
        coefficients = (transform @ grey.to(kind) @ transform.T).to(grey.dtype)
        logarithms = coefficients.abs().clamp_min(FLOOR).log()
        if self.pool > 1:
            logarithms = functional.avg_pool2d(logarithms[:, None], self.pool)
        return logarithms.flatten(1)

    def forward(self, difference: Tensor) -> Tensor:
        """The score of each difference: N x 3 x H x W to N; above 0 means perturbed."""
        standardised = (self.features(difference) - self.mean) / self.scale
        return (standardised * self.weight).sum(1) + self.bias

    @property
    def at_once(self) -> int:
        """Images whose features are fitted on together: 1,000 of 224 pixels, which takes 2 GB."""
        return max(1_000, AT_ONCE // len(self.weight))

    def fit_parts(self, parts: Iterable[tuple[Tensor, Tensor]], total: int) -> None:
        """Fit B on more images than fit into memory: one SVM for each part, and their mean.

        The mean of machines that were each fitted on a part, with the regularisation of the whole,
        is nearly as good as one fitted on all (Zhang, Duchi and Wainwright, Communication-Efficient
        Algorithms for Statistical Optimization, JMLR 2013). A single part is fitted as by
        :meth:`fit`.

        Args:
            parts: features and kinds, each of them as :meth:`fit` takes them.
            total: images of all parts together.

        Raises:
            UapError: all images of a part are of one kind, or a feature is not finite.
        """
        weights, biases = torch.zeros_like(self.weight, dtype=torch.float64), 0.0
        for features, perturbed in parts:
            if len(features) == total:
                self.fit(features, perturbed)
                return
            check_kinds(features, perturbed)
            values = features.to(self.weight.device)
            mean, scale = values.mean(0), values.std(0).clamp_min(1e-6)
            c = self.c * total / len(values)
            weight, bias = linear_svm((values - mean) / scale, perturbed.to(values.device), c)
            # Of the features as they are, because each part has a mean and a scale of its own.
            plain = weight / scale.double()
            share = len(values) / total
            weights += share * plain
            biases += share * float(bias - plain @ mean.double())
        self.mean.zero_()
        self.scale.fill_(1.0)
        self.weight.copy_(weights)
        self.bias.fill_(biases)

    def fit(self, features: Tensor, perturbed: Tensor) -> None:
        """Fit B on features of clean and perturbed images.

        Args:
            features: N x features, from :meth:`features`.
            perturbed: which rows are of perturbed images (bool, N); both kinds must occur.

        Raises:
            UapError: all images are of one kind, or a feature is not finite.
        """
        check_kinds(features, perturbed)
        targets, values = perturbed.cpu().numpy(), features.cpu().double()
        self.mean.copy_(values.mean(0))
        self.scale.copy_(values.std(0).clamp_min(1e-6))
        standardised = ((values - self.mean.cpu()) / self.scale.cpu()).float().numpy()
        # A second to import, and only needed here: a fitted detector is tensors.
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        machine = LinearSVC(C=self.c, random_state=0, max_iter=5_000)
        with warnings.catch_warnings():
            # On separable data the last digits of the margin do not matter.
            warnings.simplefilter("ignore", ConvergenceWarning)
            machine.fit(standardised, targets)
        self.weight.copy_(torch.from_numpy(np.asarray(machine.coef_[0])))
        self.bias.copy_(torch.tensor(float(machine.intercept_[0])))

    def raise_threshold(self, by: float) -> None:
        """Ask for a score that is higher by so much before an image counts as perturbed."""
        self.bias.sub_(by)


def linear_svm(features: Tensor, kinds: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """The linear SVM that ``LinearSVC(C=c)`` approaches, in a few steps where images are few.

    It minimises |w|^2 / 2 + b^2 / 2 + c sum max(0, 1 - y (w x + b))^2. Its w is a sum of the
    images' features, so that Newton's steps are in as many unknowns as there are images (Chapelle,
    Training a Support Vector Machine in the Primal, Neural Computation 2007).

    Args:
        features: N x features.
        kinds: which rows are above 0, bool N.
        c: inverse strength of the regularisation.

    Returns:
        w (features) and b (a scalar), float64.
    """
    signs = 2 * kinds.double() - 1
    products = (features @ features.T).double() + 1
    inside = torch.ones_like(kinds)
    shares = torch.zeros_like(signs)
    for _ in range(_NEWTON):
        own = products[inside][:, inside]
        own.diagonal().add_(1 / (2 * c))
        shares.zero_()
        shares[inside] = torch.linalg.solve(own, signs[inside])
        now = signs * (products @ shares) < 1
        if torch.equal(now, inside):
            break
        inside = now
    else:
        warnings.warn(f"the SVM has not settled in {_NEWTON} steps of Newton's.", stacklevel=2)
    return features.double().T @ shares, shares.sum()
