"""A universal attack without gradients: what a defence that hides its gradients has to face."""

import torch
from torch import Tensor

from uap_lightning.attacks.adaptive import read_guard
from uap_lightning.attacks.losses import margin
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import track
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.procedural import procedural

# Side of the first square, as a share of the image's; the last one has a single pixel.
_LARGEST = 0.5


def random_search(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    defense: str | None = None,
    candidates: int = 60,
    steps: int = 300,
    judged: int = 32,
) -> Universal:
    """The best of some procedural patterns, and then squares of it at random while they help.

    All that is asked of the defence is its logits on some images: their mean margin, the logit of
    the clean class less the largest other one, is to fall. The candidates are those of Co et al.
    (CCS 2019) and of :func:`~uap_lightning.perturbations.procedural.procedural`; a step gives a
    square of random place the largest values of random signs, one a channel, and is kept if the
    margin falls, as in Square Attack (ECCV 2020), whose squares shrink too.

    Args:
        network: the target network.
        images: crafting images.
        predictions: the network's on them, N.
        norm: the ball that rho lives in.
        seed: of the images, the candidates and the squares.
        defense: folder of the trained defence that is attacked, with its hard decision and on
            rounded images; None attacks the bare network.
        candidates: procedural patterns, at least 1.
        steps: squares that are tried, at least 0.
        judged: images that each is judged on, at least 1.

    Raises:
        UapError: a setting is out of its range, or the defence cannot be read or is of another
            size.
    """
    if candidates < 1 or steps < 0 or judged < 1:
        raise UapError(
            f"attack has candidates {candidates}, steps {steps} and judged {judged}: expected at "
            "least 1, 0 and 1."
        )
    device = network.mean.device
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randperm(len(images), generator=generator)[:judged].tolist()
    clean = images.take(numbers).to(device).float()
    label = predictions[numbers].to(device)
    size = clean.shape[-1]
    guard = None if defense is None else read_guard(defense, network, size)

    @torch.no_grad()
    def margin_of(rho: Tensor) -> float:
        given = (clean + rho.to(device)).round().clamp(0, 255)
        logits = network(given) if guard is None else guard.judge(given).logits
        return float(margin(logits, logits, label))

    patterns = norm.eps * norm.normalise(procedural(candidates, size, seed))
    found = [margin_of(rho) for rho in track(patterns, "Trying patterns")]
    least = min(found)
    rho = patterns[found.index(least)]
    for step in track(range(steps), "Trying squares"):
        side = max(1, round(size * _LARGEST * (1 - step / steps) ** 2))
        top, left = torch.randint(size - side + 1, (2,), generator=generator).tolist()
        signs = torch.randint(2, (3, 1, 1), generator=generator) * 2.0 - 1
        tried = rho.clone()
        tried[:, top : top + side, left : left + side] = signs * rho.abs().max()
        tried = norm.project(tried)
        value = margin_of(tried)
        if value < least:
            rho, least = tried, value
    return Universal(rho, (candidates + steps) * len(numbers) / len(images))
