"""When a descent ends before all its steps are made: it fools enough, or gains nothing more."""

from collections.abc import Callable

import torch
from torch import Tensor

from uap_lightning.attacks.fooling import Chosen, fooling_ratio
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork

LOOKED_AT = 64  # crafting images, spread over all of them
EVERY = 10  # steps from one look to the next


def stopping(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    stop_at: float | None,
    patience: int | None,
) -> Callable[[int, Tensor], bool] | None:
    """Says after a step whether to stop, by the fooling ratio on up to 64 crafting images.

    It looks every ten steps. An attack whose steps shrink has not shrunk them by then, so what is
    stopped early fools less than what runs on. The perturbation of the last look is the one that
    is returned, also where an earlier one fooled more.

    Args:
        network: the target network.
        images: crafting images.
        predictions: the network's own predictions on them, clean.
        stop_at: fooling ratio that is enough, above 0 and at most 1; None: never enough.
        patience: looks in a row without a higher ratio than before that end it; None: none do.

    Returns:
        a function of the step's number (from 0) and the perturbation; None if both are None.

    Raises:
        UapError: one of them is out of its range.
    """
    if stop_at is not None and not 0 < stop_at <= 1:
        raise UapError(
            f"attack has stop_at {stop_at}: expected a fooling ratio above 0 and at most 1, or "
            "null for none."
        )
    if patience is not None and patience < 1:
        raise UapError(f"attack has patience {patience}: expected at least 1 look, or null.")
    if stop_at is None and patience is None:
        return None
    count = min(LOOKED_AT, len(images))
    numbers = [n * len(images) // count for n in range(count)]
    sample, known = Chosen(images, numbers), predictions[torch.tensor(numbers)]
    best, idle = -1.0, 0

    def stop(step: int, rho: Tensor) -> bool:
        nonlocal best, idle
        if (step + 1) % EVERY:
            return False
        ratio = fooling_ratio(network, sample, known, rho)
        best, idle = (ratio, 0) if ratio > best else (best, idle + 1)
        enough = stop_at is not None and ratio >= stop_at
        return enough or (patience is not None and idle >= patience)

    return stop
