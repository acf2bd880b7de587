"""Synthetic perturbations: Algorithm 1 of the paper and its l_2 form (section 4.2)."""

import logging

import torch
from torch import Tensor
from torch.nn import functional

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.ball import Ball

log = logging.getLogger(__name__)

MAX_STEPS = 1_000
MAX_REJECTED = 1_000


def synthesise(crafted: Tensor, norm: Ball, count: int, seed: int) -> Tensor:
    """Random walks in the positive orthant that crafted perturbations span.

    A walk starts at zero and takes steps of z * xi, z uniform in (0, 1), along randomly chosen
    crafted perturbations, until its norm reaches xi; the last step is shortened to end on the
    sphere (condition c3). The directions are normalised in the norm that bounds the
    perturbation: with l_2-normalised ones, as line 5 of Algorithm 1 reads literally, an l_inf
    walk ends at about half the l_2 norm that line 8 asks for, and nothing is ever accepted.

    For l_inf a walk is kept when its l_2 norm is at least the mean one of the crafted
    perturbations (line 8, condition c2); for l_2 every walk is kept.

    Args:
        crafted: the set P, K x 3 x H x W, in pixel units.
        norm: the ball.
        count: how many to make (eta).
        seed: of the walks.

    Returns:
        count x 3 x H x W.

    Raises:
        UapError: too many walks in a row miss the l_2 threshold, or a walk does not end.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = norm.normalise(crafted)
    threshold = float(crafted.flatten(1).norm(dim=1).mean()) if norm.p != 2 else 0.0
    accepted: list[Tensor] = []
    rejected = 0
    while len(accepted) < count:
        walked = _walk(directions, norm, generator)
        # The tolerance is that of ending on the sphere in single precision.
        if float(walked.norm()) >= threshold * (1 - 1e-6):
            accepted.append(walked)
            rejected = 0
            continue
        rejected += 1
        if rejected == MAX_REJECTED:
            raise UapError(
                f"{MAX_REJECTED} synthetic perturbations in a row fell below the mean l_2 norm "
                f"{threshold:.0f} of the {len(crafted)} crafted ones: craft more of them "
                "(bank.train) or set bank.extended to the same number to go without."
            )
    return torch.stack(accepted) if accepted else crafted[:0]


def _walk(directions: Tensor, norm: Ball, generator: torch.Generator) -> Tensor:
    walked = torch.zeros_like(directions[0])
    for _ in range(MAX_STEPS):
        chosen = int(torch.randint(len(directions), (), generator=generator))
        step = float(torch.rand((), generator=generator)) * norm.eps * directions[chosen]
        reached = walked + step
        if float(norm.size(reached)) >= norm.eps:
            return walked + _share_to_sphere(walked, step, norm) * step
        walked = reached
    raise UapError(
        f"a synthetic perturbation did not reach its bound in {MAX_STEPS} steps: the crafted "
        "perturbations cancel one another; craft others (seed=N)."
    )


def _share_to_sphere(walked: Tensor, step: Tensor, norm: Ball) -> float:
    """The share of ``step`` that takes ``walked``, inside the ball, onto its sphere."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if float(norm.size(walked + middle * step)) < norm.eps:
            low = middle
        else:
            high = middle
    return low


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
