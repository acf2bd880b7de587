"""Whitened residuals: what is left of an image once everything that photographs share is gone."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.core.errors import UapError
from uap_lightning.streams.null import Null, fit_null

# Added to the local deviation, pixel units: below it, what varies is rounding.
FLOOR = 2.0
# Images that statistics are taken from at most: their spectra are held at once.
MOST = 600
FEWEST = 12
# Sides of images in pixels.
SMALLEST, LARGEST = 64, 1_024
_BATCH = 32


def opponent() -> Tensor:
    """The orthonormal colours in which photographs are least correlated: grey, red-green, blue."""
    rows = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return unit


class Whitener(nn.Module):
    """Turns images into whitened residuals, in which two clean photographs are nearly orthogonal.

    In three steps: the image in opponent colours minus its 5 x 5 binomial blur; divided by its
    local deviation plus 2, so that no textured region outweighs the others; and divided, frequency
    by frequency, by the root of the power that photographs have there. The result has length 1,
    or less where an image is nearly flat, because what is left of such an image is hardly its own.

    Adding one pattern to different images adds nearly one vector to their residuals, so that
    their inner products tell (:mod:`uap_lightning.streams.matching`).

    Args:
        size: side of the images in pixels, at least 64.

    Attributes:
        power: root of the median power at each frequency, 3 x H x (W / 2 + 1).
        length: length of a residual before normalising, the median of those fitted on.
        null: distribution of the scores of clean pairs, as numbers; see
            :class:`~uap_lightning.streams.null.Null`.
        spectral_null: the same of the scores of descriptions.

    Raises:
        UapError: the size is below 64.
    """

    power: Tensor
    length: Tensor
    numbers: Tensor
    spectral_numbers: Tensor
    _colours: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if not SMALLEST <= size <= LARGEST:
            raise UapError(
                f"images have a side of {size} pixels: expected {SMALLEST} to {LARGEST:,}."
            )
        self.size = size
        self.register_buffer("power", torch.ones(3, size, size // 2 + 1))
        self.register_buffer("length", torch.ones(()))
        self.register_buffer("numbers", torch.zeros(len(Null.FIELDS), dtype=torch.float64))
        self.register_buffer("spectral_numbers", torch.zeros_like(self.numbers))
        self.register_buffer("_colours", opponent(), persistent=False)

    @property
    def dimension(self) -> int:
        """Length d of a residual: 3 x H x W numbers."""
        return 3 * self.size**2

    @property
    def null(self) -> Null:
        """How the scores of clean pairs are distributed."""
        return Null(*self.numbers.tolist())

    @property
    def spectral_null(self) -> Null:
        """How the scores of clean pairs' descriptions are distributed."""
        return Null(*self.spectral_numbers.tolist())

    def forward(self, images: Tensor) -> Tensor:
        """Whitened residuals of images.

        Args:
            images: N x 3 x H x W, RGB, 0-255, uint8 or float.

        Returns:
            float N x d.
        """
        return self._of_length(self._residuals(self._spectra(images)))

    def describe(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened residuals, and what does not change when the pattern in them is moved.

        The second is made of the amplitudes of a residual's spectrum, which neither a shift round
        the edges nor a change of sign alters: the difference of each two neighbours along a row of
        frequencies over their sum, so that no smooth trend is left, brought to length 1.

        Args:
            images: N x 3 x H x W, RGB, 0-255, uint8 or float.

        Returns:
            residuals, float N x d; descriptions, float N x e, with e of
            :func:`description_pairs` for each row of each colour.
        """
        spectra = self._spectra(images)
        return self._of_length(self._residuals(spectra)), _description(spectra)

    def descriptions(self, residuals: Tensor) -> Tensor:
        """Descriptions of residuals, N x d, as :meth:`describe` gives those of images."""
        return _description(torch.fft.rfft2(residuals.view(-1, 3, self.size, self.size)))

    @torch.no_grad()
    def fit(self, images: Tensor, *, shifted: bool = False) -> "Whitener":
        """Take the statistics of photographs: two thirds give the spectrum, one the null.

        Power is the median over images, which a pattern in fewer than half of them does not move.

        Args:
            images: N x 3 x H x W, uint8, different photographs; at most 600 are used.
            shifted: some may carry a pattern: in each pair of the null, roll one image, which
                puts what they share out of step.

        Raises:
            UapError: they are fewer than 12, or of another size.
        """
        if images.ndim != 4 or images.shape[1:] != (3, self.size, self.size):
            raise UapError(
                f"images have shape {tuple(images.shape)}: expected N x 3 x {self.size} x "
                f"{self.size}."
            )
        if len(images) < FEWEST:
            raise UapError(
                f"there are {len(images)} images to take the statistics of photographs from: "
                f"expected at least {FEWEST}."
            )
        chosen = images[torch.linspace(0, len(images) - 1, min(MOST, len(images))).long()]
        third = torch.arange(len(chosen)) % 3 == 2
        powers = [
            torch.fft.rfft2(self._local(b)).abs().square() for b in self._parts(chosen[~third])
        ]
        middle = torch.cat(powers).median(dim=0).values
        # Neighbouring frequencies share what so few images tell badly.
        smooth = functional.avg_pool2d(
            functional.pad(middle[None], (1, 1, 1, 1), mode="reflect"), 3, 1
        )[0]
        self.power.copy_(smooth.sqrt().clamp_min(1e-6))
        parts = [self._spectra(batch) for batch in self._parts(chosen[third])]
        whitened = torch.cat([self._residuals(part) for part in parts])
        self.length.copy_(whitened.norm(dim=1).median())
        held, described = self._of_length(whitened), torch.cat([_description(p) for p in parts])
        other, mirrored = held, described
        if shifted:
            maps = held.view(-1, 3, self.size, self.size)
            by = (self.size // 3 | 1, self.size // 5 | 1)
            other = maps.roll(by, (-2, -1)).flatten(1)
            # Shifting changes no amplitude; in the mirror they are those of other frequencies.
            mirrored = self.descriptions(maps.flip(-1))
        for numbers, some, others in (
            (self.numbers, held, other),
            (self.spectral_numbers, described, mirrored),
        ):
            scores = some @ others.T * math.sqrt(some.shape[1])
            upper = torch.triu(torch.ones_like(scores, dtype=torch.bool), 1)
            numbers.copy_(torch.tensor(fit_null(scores[upper]).values()))
        return self

    def _parts(self, images: Tensor) -> Iterator[Tensor]:
        for batch in torch.split(images, _BATCH):
            yield batch.to(self.power.device)

    def _local(self, images: Tensor) -> Tensor:
        """High-pass part in opponent colours over its local deviation: N x 3 x H x W."""
        colours = (self._colours @ images.float().flatten(2)).view_as(images)
        high = colours - _blurred(colours)
        return high / (_window_mean(high.square()).sqrt() + FLOOR)

    def _spectra(self, images: Tensor) -> Tensor:
        spectra: Tensor = torch.fft.rfft2(self._local(images)) / self.power
        return spectra

    def _residuals(self, spectra: Tensor) -> Tensor:
        whitened: Tensor = torch.fft.irfft2(spectra, s=(self.size, self.size))
        return whitened.flatten(1)

    def _of_length(self, residuals: Tensor) -> Tensor:
        lengths = residuals.norm(dim=1, keepdim=True)
        return residuals / torch.maximum(lengths, self.length)


def description_pairs(size: int) -> int:
    """Pairs of neighbouring frequencies in each row of a description of images of this side."""
    return (size - 1) // 2 // 2


def _description(spectra: Tensor) -> Tensor:
    """Differences of neighbouring amplitudes over their sum: N x 3 x H x (W / 2 + 1) to N x e."""
    amplitudes = spectra.abs()
    # Without the first column and the last of an even width: their halves mirror each other.
    ends = 1 + 2 * description_pairs(amplitudes.shape[-2])
    some, others = amplitudes[..., 1:ends:2], amplitudes[..., 2:ends:2]
    differences = ((some - others) / (some + others).clamp_min(1e-6)).flatten(1)
    unit: Tensor = differences / differences.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return unit


def _blurred(maps: Tensor) -> Tensor:
    """5 x 5 binomial blur: four times the mean of neighbours, along columns and along rows.

    Sums of shifted copies take a fifth of a convolution's time on a processor.
    """
    maps = functional.pad(maps, (2, 2, 2, 2), mode="reflect")
    for _ in range(4):
        maps = maps[..., 1:] + maps[..., :-1]
    for _ in range(4):
        maps = maps[..., 1:, :] + maps[..., :-1, :]
    return maps / 256


def _window_mean(maps: Tensor) -> Tensor:
    """The mean over windows of 7 x 7, sums of 2, 4 and 7 one after another."""
    maps = functional.pad(maps, (3, 3, 3, 3), mode="reflect")
    for dim in (-1, -2):
        length = maps.shape[dim] - 6
        two = maps.narrow(dim, 0, length + 5) + maps.narrow(dim, 1, length + 5)
        four = two.narrow(dim, 0, length + 3) + two.narrow(dim, 2, length + 3)
        seven = four.narrow(dim, 0, length) + two.narrow(dim, 4, length)
        maps = seven + maps.narrow(dim, 6, length)
    return maps / 49
