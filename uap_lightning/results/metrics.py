"""The paper's metrics (section 5), their undefended floor, and their intervals."""

from dataclasses import dataclass, fields, replace
from math import isfinite

import torch
from scipy.stats import t as student
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.results.protocols import Protocol
from uap_lightning.results.row import Numbers

WITH_INTERVAL = (
    "prn_gain",
    "prn_restoration",
    "detection_rate",
    "undefended_rate",
    "defense_rate",
)

STREAMED = ("stream_rate", "stream_rate_16")
# Attacked images of each perturbation after which the guard with memory is measured once more.
AFTER = 16
# Photographs that the bootstrap draws at once: 30 MB.
_DRAWN = 1_250_000


@dataclass(frozen=True)
class Streamed:
    """What became of each mixed test image in front of the guard with memory.

    Attributes:
        prediction: on what the guard gave the network (int64, N).
        met: images that came before with the test perturbation that the fewest had (int64, N).
    """

    prediction: Tensor
    met: Tensor


@dataclass(frozen=True)
class Outcomes:
    """What became of each test image, clean and perturbed, on the one paired draw.

    Attributes:
        photograph: the photograph that the crop is from (int64, N).
        perturbation: the test perturbation drawn for it (int64, N).
        label: the class it is counted against (int64, N).
        coin: uniform draw that decides whether the mixed set holds it perturbed (float, N).
        clean: prediction on the clean image (int64, N), and so on:
        perturbed: on the perturbed image.
        rectified_clean: on the rectified clean image.
        rectified_perturbed: on the rectified perturbed image.
        score_clean: the detector's score of the clean image (float, N).
        score_perturbed: of the perturbed image.
    """

    photograph: Tensor
    perturbation: Tensor
    label: Tensor
    coin: Tensor
    clean: Tensor
    perturbed: Tensor
    rectified_clean: Tensor
    rectified_perturbed: Tensor
    score_clean: Tensor
    score_perturbed: Tensor

    def where(self, mask: Tensor) -> "Outcomes":
        """Only the images for which ``mask`` (bool, N) holds."""
        return Outcomes(*(getattr(self, field.name)[mask] for field in fields(self)))


def select(outcomes: Outcomes, protocol: Protocol) -> Outcomes:
    """The test images of a protocol.

    Raises:
        UapError: protocol B on a network that gets no clean image right.
    """
    if not protocol.correct_only:
        return outcomes
    correct = outcomes.clean == outcomes.label
    if not bool(correct.any()):
        raise UapError(
            "protocol b counts the test images that the network classifies correctly when clean, "
            "and there is none: check that the labels are the network's classes, or set "
            "protocol=a."
        )
    return outcomes.where(correct)


def tallies(outcomes: Outcomes, perturbed_share: float) -> dict[str, Tensor]:
    """Per image, whether each quantity of section 5 holds: name to float N of 0 and 1."""
    coin = outcomes.coin < perturbed_share
    fires_clean = outcomes.score_clean > 0
    fires_perturbed = outcomes.score_perturbed > 0
    defended_clean = torch.where(fires_clean, outcomes.rectified_clean, outcomes.clean)
    defended_perturbed = torch.where(
        fires_perturbed, outcomes.rectified_perturbed, outcomes.perturbed
    )
    right = {
        "acc_clean": outcomes.clean,
        "acc_perturbed": outcomes.perturbed,
        "acc_rectified_perturbed": outcomes.rectified_perturbed,
        "acc_rectified_mixed": torch.where(
            coin, outcomes.rectified_perturbed, outcomes.rectified_clean
        ),
        "acc_undefended_mixed": torch.where(coin, outcomes.perturbed, outcomes.clean),
        "acc_defended": torch.where(coin, defended_perturbed, defended_clean),
        "acc_defended_clean": defended_clean,
    }
    result = {name: prediction == outcomes.label for name, prediction in right.items()}
    result["fooling_ratio"] = outcomes.perturbed != outcomes.clean
    result["detection_rate"] = torch.where(coin, fires_perturbed, ~fires_clean)
    return {name: held.double() for name, held in result.items()}


def rates(means: dict[str, Tensor]) -> dict[str, Tensor]:
    """The metrics in percent from the means of the tallies, of any shape.

    Divided by 0 they are NaN or infinite.

    PRN-gain        (acc(rectified perturbed) - acc(perturbed)) / acc(rectified perturbed)
    PRN-restoration acc(rectified mixed) / acc(clean)
    detection rate  accuracy of the detector on the mixed set
    defense rate    acc(mixed, rectified where the detector fires) / acc(clean)
    undefended rate acc(mixed, no defence) / acc(clean): the floor of the two before
    """
    clean = means["acc_clean"]
    rectified = means["acc_rectified_perturbed"]
    metrics = {
        "prn_gain": (rectified - means["acc_perturbed"]) / rectified,
        "prn_restoration": means["acc_rectified_mixed"] / clean,
        "undefended_rate": means["acc_undefended_mixed"] / clean,
        "defense_rate": means["acc_defended"] / clean,
    }
    return {name: 100 * value for name, value in {**means, **metrics}.items()}


def summarise(outcomes: Outcomes, protocol: Protocol, seed: int, resamples: int = 2_000) -> Numbers:
    """The numbers of one result row.

    Args:
        outcomes: of all test images.
        protocol: which of them count, and the share that is perturbed.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        counts, accuracies and metrics in percent, ``ci95``: the bootstrap interval of each metric
        over photographs, not crops, because crops of one photograph are not independent, and
        ``ci95_perturbations`` of :func:`over_perturbations`. A value that is divided by 0 is None,
        and so is an interval where more than 2.5 % of the resamples are, because its end is then
        none of those left.
    """
    chosen = select(outcomes, protocol)
    held = tallies(chosen, protocol.perturbed_share)
    point = rates({name: values.mean() for name, values in held.items()})
    _, photograph = torch.unique(chosen.photograph, return_inverse=True)
    count = int(photograph.max()) + 1
    sums = torch.stack(
        [
            torch.zeros(count, dtype=torch.float64).index_add_(0, photograph, v)
            for v in held.values()
        ]
    )
    crops = torch.bincount(photograph, minlength=count).double()
    drawn = _resampled(torch.cat([sums, crops[None]]), seed, resamples)
    resampled = drawn[:, :-1] / drawn[:, -1:]
    spread = rates(dict(zip(held, resampled.T, strict=True)))
    return Numbers(
        n_images=len(chosen.label),
        n_photographs=count,
        n_perturbed=int((chosen.coin < protocol.perturbed_share).sum()),
        ci95={name: _interval(spread[name]) for name in WITH_INTERVAL},
        ci95_perturbations=over_perturbations(held, photograph, chosen.perturbation),
        **{name: _number(value) for name, value in point.items()},
    )


def with_stream(
    numbers: Numbers, outcomes: Outcomes, streamed: Streamed, protocol: Protocol, seed: int
) -> Numbers:
    """The numbers of a row and ``stream_rate`` and ``stream_rate_16`` beside them.

    acc(mixed, through the guard with memory) / acc(clean), on all images of the protocol and on
    those that came when each test perturbation had been in 16 images; the second is None where
    none came later. Both have the bootstrap interval over photographs.
    """
    counted = torch.ones_like(outcomes.clean, dtype=torch.bool)
    if protocol.correct_only:
        counted = outcomes.clean == outcomes.label
    found = []
    ci95 = dict(numbers.ci95)
    for name, least in zip(STREAMED, (0, AFTER), strict=True):
        chosen = counted & (streamed.met >= least)
        right = (streamed.prediction == outcomes.label)[chosen].double()
        clean = (outcomes.clean == outcomes.label)[chosen].double()
        _, member = torch.unique(outcomes.photograph[chosen], return_inverse=True)
        count = int(member.max()) + 1 if len(member) else 0
        zeros = torch.zeros(2, count, dtype=torch.float64)
        sums = zeros.index_add_(1, member, torch.stack([right, clean]))
        drawn = _resampled(sums, seed, 2_000)
        found.append(_number(100 * right.sum() / clean.sum()))
        ci95[name] = _interval(100 * drawn[:, 0] / drawn[:, 1])
    return replace(numbers, ci95=ci95, stream_rate=found[0], stream_rate_16=found[1])


def over_perturbations(
    held: dict[str, Tensor], photograph: Tensor, perturbation: Tensor
) -> dict[str, tuple[float, float] | None]:
    """The 95 % interval of each metric over photographs and perturbations, both drawn anew.

    The bootstrap over photographs keeps the test perturbations, and covers the mean over new ones
    only half the time; a bootstrap of three to five perturbations is too narrow as well. This is
    the two-way cluster-robust variance of Cameron, Gelbach and Miller (J. Business & Economic
    Statistics 29, 2011), V(photographs) + V(perturbations) - V(their pairs) and at least
    V(photographs), each by the jackknife, with Student's t of K - 1 degrees of freedom for K
    perturbations. With one crop a photograph it is the t interval of the K means, each of one
    perturbation on photographs of its own.

    Args:
        held: tallies, name to float64 N.
        photograph: that each image is from (int64, N).
        perturbation: drawn for each image (int64, N).

    Returns:
        None for what is divided by 0, and for all with fewer than three perturbations, of which
        the interval would be wider than the scale.
    """
    kinds, which = torch.unique(perturbation, return_inverse=True)
    if len(kinds) < 3:
        return dict.fromkeys(WITH_INTERVAL)
    values = torch.stack(list(held.values()))
    point = rates(dict(zip(held, values.mean(dim=1), strict=True)))
    pairs = photograph * len(kinds) + which
    ways = [_jackknife(held, cluster) for cluster in (photograph, which, pairs)]
    quantile = float(student.ppf(0.975, len(kinds) - 1))
    found: dict[str, tuple[float, float] | None] = {}
    for name in WITH_INTERVAL:
        photographs, perturbations, both = (float(way[name]) for way in ways)
        half = quantile * max(photographs, photographs + perturbations - both) ** 0.5
        low, high = float(point[name]) - half, float(point[name]) + half
        found[name] = (low, high) if isfinite(low + perturbations + both) else None
    return found


def _jackknife(held: dict[str, Tensor], cluster: Tensor) -> dict[str, Tensor]:
    """The variance of each metric: a cluster (int64, N) is left out at a time."""
    _, member = torch.unique(cluster, return_inverse=True)
    sizes = torch.bincount(member).double()
    left = {}
    for name, values in held.items():
        sums = torch.zeros_like(sizes).index_add_(0, member, values)
        left[name] = (sums.sum() - sums) / (len(member) - sizes)
    share = 1 - 1 / len(sizes)
    return {n: share * (v - v.mean()).square().sum() for n, v in rates(left).items()}


def _resampled(values: Tensor, seed: int, resamples: int) -> Tensor:
    """Sums of the values of photographs, K x N, over bootstrap resamples of these: resamples x K.

    Blocks of resamples are drawn one after the other, so that memory does not grow with N.
    """
    count = values.shape[1]
    if not count:
        return values.new_zeros(resamples, len(values))
    generator = torch.Generator().manual_seed(seed)
    sums = []
    for numbers in torch.split(torch.arange(resamples), max(1, _DRAWN // count)):
        drawn = torch.randint(count, (len(numbers), count), generator=generator)
        weights = torch.zeros(len(numbers), count, dtype=torch.float64)
        weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
        sums.append(weights @ values.T)
    return torch.cat(sums)


def _number(value: Tensor) -> float | None:
    return float(value) if bool(value.isfinite()) else None


def _interval(values: Tensor) -> tuple[float, float] | None:
    finite = values[values.isfinite()]
    if len(finite) < 0.975 * len(values):
        return None
    low, high = torch.quantile(finite, torch.tensor([0.025, 0.975], dtype=finite.dtype)).tolist()
    return low, high
