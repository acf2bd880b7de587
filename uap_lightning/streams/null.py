"""How two clean photographs score, and the threshold for a stated rate of false alarms."""

from dataclasses import astuple, dataclass
from typing import ClassVar

from scipy.stats import genpareto
from torch import Tensor

# Share of the scores whose excess over the smallest of them makes the tail.
_TAIL = 0.01
# Nearly flat images make few pairs and large scores, which a small sample may lack: no tail is
# taken to be lighter than this one.
_LIGHTEST = 0.1
# The shape of so few scores' tail is mostly chance, and a heavier one would let nothing be found.
_HEAVIEST = 0.2
_FEW = 100


@dataclass(frozen=True)
class Null:
    """The upper tail of the scores of clean pairs: a generalised Pareto distribution.

    Scores above ``start`` exceed it by a generalised Pareto variable (Pickands, 1975), the limit of
    any tail; so a threshold can be stated for rates that the sample is too small to count.

    Attributes:
        mean: of all scores.
        deviation: of all scores.
        start: where the tail begins.
        share: of the scores that lie above it.
        shape: of the tail, at least 0.1, and at most 0.2 where fewer than 100 scores make it.
        scale: of the tail.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("mean", "deviation", "start", "share", "shape", "scale")

    mean: float
    deviation: float
    start: float
    share: float
    shape: float
    scale: float

    def values(self) -> tuple[float, ...]:
        """The numbers, in the order of ``FIELDS``."""
        return astuple(self)

    def threshold(self, rate: float) -> float:
        """The score that a clean pair exceeds with probability ``rate``."""
        if rate >= self.share:
            return self.start
        excess = genpareto.isf(rate / self.share, self.shape, scale=self.scale)
        return float(self.start + excess)


def fit_null(scores: Tensor) -> Null:
    """Fit the tail of the scores of clean pairs."""
    scores = scores.double().cpu()
    count = max(10, int(_TAIL * len(scores)))
    top = scores.topk(min(count, len(scores))).values
    start = float(top[-1])
    excess = (top[:-1] - start).clamp_min(1e-9).numpy()
    shape, _, scale = genpareto.fit(excess, floc=0)
    heaviest = _HEAVIEST if len(top) < _FEW else float("inf")
    if not _LIGHTEST <= shape <= heaviest:  # the same mean, scale / (1 - shape)
        shape = min(max(shape, _LIGHTEST), heaviest)
        scale = float(excess.mean()) * (1 - shape)
    share = len(top) / len(scores)
    return Null(float(scores.mean()), float(scores.std()), start, share, float(shape), float(scale))
