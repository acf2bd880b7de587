"""Synthetic perturbations: Algorithm 1 of the paper and its l_2 form (section 4.2)."""

import logging
import math

import torch
from torch import Tensor
from torch.nn import functional

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball

log = logging.getLogger(__name__)

MAX_STEPS = 1_000
MAX_REJECTED = 1_000
COPY = 0.95


def synthesise(crafted: Tensor, norm: Ball, count: int, seed: int) -> Tensor:
    """Random walks in the positive orthant that crafted perturbations span.

    Lines 3 to 8 of Algorithm 1: a walk starts at zero and takes steps of z * xi, z uniform in
    (0, 1), along randomly chosen crafted perturbations, until its norm reaches xi. For l_inf it
    is kept when its l_2 norm is then at least the mean one of the crafted perturbations; for l_2
    every walk is kept. Two readings are ours:

    - The directions are normalised in the norm that bounds the perturbation. With l_2-normalised
      ones, as line 5 reads literally, an l_inf walk ends at about half the l_2 norm that line 8
      asks for, and nothing is ever accepted.
    - The last step may lead beyond xi. Line 8 judges the walk as it ends, and what is kept is
      then projected onto the ball (condition c3). Projecting before line 8 would keep copies of
      crafted perturbations only: two nearly orthogonal ones that share a pixel at the bound mix
      as a + b = 1 at most, so the l_2 norm of the mixture, the root of a^2 + b^2 of theirs, is
      below theirs unless a or b is nearly 1. After the projection a mixture of saturated ones
      has about 0.75 of their l_2 norm, one of others 0.9 to 1.1 (c2).

    P_s joins P in a set, so a walk that ends at a crafted perturbation, at a cosine above
    ``COPY``, is not kept; the bound is nearer to 1 where the crafted ones are alike themselves.
    The cosine to the nearest crafted one is then 0.7 to 0.95 (0.71 and 0.83 in Figure 3).

    Args:
        crafted: the set P, K x 3 x H x W, in pixel units.
        norm: the ball.
        count: how many to make (eta).
        seed: of the walks.

    Returns:
        count x 3 x H x W.

    Raises:
        UapError: too many walks in a row are not kept, or a walk does not end.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = norm.normalise(crafted)
    threshold = float(crafted.flatten(1).norm(dim=1).mean()) if norm.p != 2 else 0.0
    units = functional.normalize(crafted.flatten(1), dim=1)
    largest = _largest_cosine(units) if count else 1.0
    accepted: list[Tensor] = []
    rejected = 0
    while len(accepted) < count:
        walked = _walk(directions, norm, generator)
        # The tolerance is that of single precision.
        long_enough = float(walked.norm()) >= threshold * (1 - 1e-6)
        walked = norm.project(walked)
        if long_enough and _cosine(walked, units) <= largest + 1e-6:
            accepted.append(walked)
            rejected = 0
            continue
        rejected += 1
        if rejected == MAX_REJECTED:
            raise UapError(
                f"{MAX_REJECTED} synthetic perturbations in a row fell below the mean l_2 norm "
                f"{threshold:.0f} of the {len(crafted)} crafted ones or were copies of one: craft "
                "more of them (bank.train) or set bank.extended to the same number to go without."
            )
    return torch.stack(accepted) if accepted else crafted[:0]


def _cosine(walked: Tensor, units: Tensor) -> float:
    """The absolute cosine of a walk to the nearest of some directions, K x d of length 1."""
    return float((units @ functional.normalize(walked.flatten(), dim=0)).abs().max())


def _largest_cosine(units: Tensor) -> float:
    """The cosine to the nearest crafted one above which a walk is a copy of it.

    Halfway from a copy to the even mixture of the two that are least alike, at least ``COPY``;
    1 where there is nothing to mix.
    """
    least = min(1.0, float((units @ units.T).abs().min()))
    return max(COPY, 0.5 + 0.5 * math.sqrt((1 + least) / 2))


def _walk(directions: Tensor, norm: Ball, generator: torch.Generator) -> Tensor:
    """Lines 3 to 7 of Algorithm 1: from zero to the ball's surface or beyond."""
    walked = torch.zeros_like(directions[0])
    for _ in range(MAX_STEPS):
        chosen = int(torch.randint(len(directions), (), generator=generator))
        walked = walked + float(torch.rand((), generator=generator)) * norm.eps * directions[chosen]
        if float(norm.size(walked)) >= norm.eps:
            return walked
    raise UapError(
        f"a synthetic perturbation did not reach its bound in {MAX_STEPS} steps: the crafted "
        "perturbations cancel one another; craft others (seed=N)."
    )


def extend(crafted: Tensor, norm: Ball, total: int, seed: int) -> Tensor:
    """The set P* = P and P_s (section 4.2): crafted perturbations and synthetic ones.

    Args:
        crafted: the set P, K x 3 x H x W.
        norm: the ball.
        total: size of P*; at least K.
        seed: of the walks.

    Raises:
        UapError: ``total`` is below the number of crafted perturbations, or there are none.
    """
    if total < len(crafted):
        raise UapError(
            f"bank.extended is {total}, fewer than the {len(crafted)} crafted perturbations for "
            "training: set it to at least bank.train."
        )
    if not len(crafted):
        raise UapError(
            "the bank has no perturbations for training: craft some (bank.train), or import some "
            "with --part train."
        )
    made = synthesise(crafted, norm, total - len(crafted), seed)
    if len(made):
        cosines = nearest(made, crafted)[1]
        log.info(
            "%d synthetic perturbations; cosine to the nearest crafted one %.2f on average, "
            "%.2f to %.2f",
            len(made),
            float(cosines.mean()),
            float(cosines.min()),
            float(cosines.max()),
        )
    return torch.cat([crafted, made])


def nearest(made: Tensor, crafted: Tensor) -> tuple[Tensor, Tensor]:
    """For each perturbation of ``made``, which of ``crafted`` is most like it.

    Args:
        made: N x 3 x H x W.
        crafted: K x 3 x H x W, at least one.

    Returns:
        its number (int64, N) and the absolute cosine to it (N).
    """
    directions = functional.normalize(crafted.flatten(1), dim=1)
    cosines = (functional.normalize(made.flatten(1), dim=1) @ directions.T).abs()
    largest = cosines.max(1)
    return largest.indices, largest.values
