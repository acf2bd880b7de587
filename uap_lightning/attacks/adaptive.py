"""The attacker who knows the whole guard: a UAP crafted through rectifier and detector."""

import logging
from collections.abc import Callable, Sequence
from itertools import cycle, islice

import torch
from torch import Tensor

from uap_lightning.attacks.adaptive_ways import STEPS, WAYS, Step
from uap_lightning.attacks.cosine_uap import clean_logits
from uap_lightning.attacks.descent import (
    NoGradient,
    descend,
    draw_batches,
    random_start,
)
from uap_lightning.attacks.fooling import batches
from uap_lightning.attacks.losses import LOSSES
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import Images
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.guard.guard import Guard
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball

log = logging.getLogger(__name__)

_JUDGED = 256


def adaptive(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    defense: str,
    ways: Sequence[str] = WAYS,
    losses: Sequence[str] = tuple(LOSSES),
    restarts: int = 15,
    steps: int = 90,
    batch_size: int = 8,
    step_size: float = 0.2,
    momentum: float = 0.9,
    price: float = 1.0,
) -> Universal:
    """The worst of several white-box attacks on the whole guard.

    Restart after restart another start, way and loss are taken: the ways one after the other, and
    for each round of them the next loss. All are judged on the guard as it is, with its hard
    decision and on rounded images; the one that changes most of its answers is returned. So the
    attacker chooses on crafting images, and never sees the images that the defence is tested on.

    Args:
        network: the target network.
        images: crafting images.
        predictions: the network's on them, N.
        norm: the ball that rho lives in.
        seed: of the starting points and the batches.
        defense: folder of the trained defence that is attacked.
        ways: of ``WAYS``.
        losses: names of :data:`~uap_lightning.attacks.losses.LOSSES`.
        restarts: attacks that the worst is chosen from; ``len(ways) * len(losses)`` tries each
            pair once.
        steps: gradient steps of each.
        batch_size: images a step.
        step_size: of the first step, as a share of the radius.
        momentum: of the gradient, from 0 to below 1.
        price: weight of the detector's score in ``evade``.

    Raises:
        UapError: the defence cannot be read or is of another size, a setting is out of its range,
            or no gradient reaches the perturbation.
    """
    guard = read_guard(defense, network, images.take([0]).shape[-1])
    return attack_guard(
        guard,
        images,
        predictions,
        norm,
        seed,
        ways=ways,
        losses=losses,
        restarts=restarts,
        steps=steps,
        batch_size=batch_size,
        step_size=step_size,
        momentum=momentum,
        price=price,
    )


def read_guard(defense: str, network: TargetNetwork, size: int) -> Guard:
    """The trained defence of a folder in front of a network, to be attacked.

    Raises:
        UapError: the defence cannot be read, or was trained on images of another size.
    """
    found = load_defense(defense)
    if found.size != size:
        raise UapError(
            f"attack.defense is {defense}, which was trained on images of side {found.size}: "
            f"expected {size}; set data.crop={found.size}."
        )
    guard = Guard(network, found.rectifier, found.detector)
    return guard.to(network.mean.device).requires_grad_(False)


def attack_guard(
    guard: Guard,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    ways: Sequence[str] = WAYS,
    losses: Sequence[str] = tuple(LOSSES),
    restarts: int = 15,
    steps: int = 90,
    batch_size: int = 8,
    step_size: float = 0.2,
    momentum: float = 0.9,
    price: float = 1.0,
) -> Universal:
    """:func:`adaptive` against a guard at hand.

    A way in which no gradient reaches the perturbation, as through a filter that rounds, is said
    and left out.

    Raises:
        UapError: a setting is out of its range.
        NoGradient: no gradient reaches the perturbation in any way.
    """
    _check(ways, WAYS, "ways")
    _check(losses, list(LOSSES), "losses")
    if restarts < 1:
        raise UapError(f"attack.restarts is {restarts}: expected at least 1.")
    rounds = ((way, loss) for loss in cycle(losses) for way in ways)
    best: tuple[float, Tensor, dict[str, object]] | None = None
    without: NoGradient | None = None
    tried = 0
    for restart, (way, loss) in enumerate(islice(rounds, restarts)):
        generator = torch.Generator().manual_seed(seed * 1_009 + restart)
        start = random_start(images.take([0]).shape[1:], norm, generator)
        drawn = draw_batches(len(images), steps, batch_size, generator)
        try:
            rho = descend(
                _objective(guard, images, predictions, drawn, way, loss, price),
                start,
                drawn,
                guard.network,
                norm,
                step_size=step_size,
                momentum=momentum,
                description=f"Attacking the guard ({way}, {loss})",
            )
        except NoGradient as error:
            log.warning("restart %d, %s, %s: %s", restart, way, loss, error)
            without = error
            continue
        tried += 1
        fooled = fooling_of_guard(guard, images, predictions, rho)
        log.info("restart %d, %s, %s: the guard is fooled on %.1f %%", restart, way, loss, fooled)
        if best is None or fooled > best[0]:
            chosen = {"way": way, "loss": loss, "restart": restart, "fooling_of_guard": fooled}
            best = (fooled, rho.cpu(), chosen)
    if best is None:
        assert without is not None
        raise without
    passes = tried * steps * batch_size / len(images)
    return Universal(best[1], passes, {**best[2], "tried": tried})


def _check(given: Sequence[str], known: Sequence[str], key: str) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        raise UapError(
            f"attack.{key} is {list(given)}: expected some of {', '.join(known)}, such as "
            f"[{known[0]}]."
        )


def _objective(
    guard: Guard,
    images: Images,
    predictions: Tensor,
    drawn: list[list[int]],
    way: str,
    loss: str,
    price: float,
) -> Callable[[Tensor, list[int]], Tensor]:
    """What :func:`descend` minimises: of a perturbation on some images."""
    device = guard.network.mean.device
    clean = clean_logits(guard.network, images, sorted({n for batch in drawn for n in batch}))
    done = iter(range(len(drawn)))

    def objective(rho: Tensor, numbers: list[int]) -> Tensor:
        aim = torch.stack([clean[number] for number in numbers])
        label = predictions[numbers].to(device)

        def fooled(logits: Tensor) -> Tensor:
            return LOSSES[loss](logits, aim, label)

        perturbed = (images.take(numbers).to(device).float() + rho).clamp(0, 255)
        progress = next(done) / max(1, len(drawn) - 1)
        return STEPS[way](Step(guard, perturbed, fooled, progress, price))

    return objective


@torch.no_grad()
def fooling_of_guard(guard: Guard, images: Images, predictions: Tensor, rho: Tensor) -> float:
    """Share of (at most 256) images on which the guard says another class, in percent.

    The guard decides as in use, and perturbed images are rounded to whole pixel values.
    """
    device = guard.network.mean.device
    count, changed, seen = min(_JUDGED, len(images)), 0, 0
    for batch in batches(images, 32, device):
        batch = batch[: count - seen]
        given = (batch + rho.to(device)).round().clamp(0, 255)
        answer = guard.judge(given).logits.argmax(1).cpu()
        changed += int((answer != predictions[seen : seen + len(batch)]).sum())
        seen += len(batch)
        if seen == count:
            break
    return 100 * changed / count
