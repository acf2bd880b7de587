"""Whether a pattern that images share does harm, and what it may be where it does none."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.stats import binom
from torch import Tensor

# Share of the predictions from which on a pattern is harmful.
HARMFUL = 0.15
# Chance that a pattern no worse than its scrambled self is called adversarial.
_RISK = 0.05
_SCRAMBLES = 4


@dataclass(frozen=True)
class Verdict:
    """What a shared pattern does.

    Attributes:
        harmful: it changes at least 15 % of the predictions.
        changed: share of the reference images whose prediction it changes, 0-1.
        control: likewise of the same pattern with its phases scrambled in four ways, each of which
            is added to a fourth of the images.
        kind: ``adversarial`` where it is harmful, more so than the scrambled one; ``noise`` where
            any pattern of its spectrum is as harmful; else what it looks like: ``local`` (a logo, a
            watermark), ``border`` (a frame, bars), ``grid of 8`` (blocks of JPEG), ``faint`` (the
            fingerprint of a sensor), or ``without effect``.
    """

    harmful: bool
    changed: float
    control: float
    kind: str


@torch.no_grad()
def verify(predict: Callable[[Tensor], Tensor], pattern: Tensor, clean: Tensor) -> Verdict:
    """Add a pattern to clean images and count the predictions that it changes.

    It is harmful where it changes at least 15 % of the predictions: of few images a single one, so
    that an attack is not let pass for want of images; more images tell better. It is adversarial
    where a pattern that changes as many as the scrambled one does would change so many, or more,
    with a chance of at most 5 %.

    Args:
        predict: images (float N x 3 x H x W, 0-255) to classes, N.
        pattern: 3 x H x W, pixel units.
        clean: N x 3 x H x W, 0-255: images without the pattern.
    """
    images = clean.float()
    before = predict(images)

    def changes(added: Tensor) -> int:
        return int((predict((images + added).clamp(0, 255)) != before).sum())

    # Four scrambled patterns cost as many predictions as one: each is added to a fourth.
    disguised = torch.stack([scrambled(pattern, seed) for seed in range(_SCRAMBLES)])
    count, found = len(images), changes(pattern)
    control_share = changes(disguised[torch.arange(count) % _SCRAMBLES]) / count

    harmful = found / count >= HARMFUL
    chance = float(binom.sf(found - 1, count, control_share))
    kind = "adversarial" if chance <= _RISK else "noise"
    kind = kind if harmful else kind_of(pattern)
    return Verdict(harmful, found / count, control_share, kind)


def scrambled(pattern: Tensor, seed: int) -> Tensor:
    """Another pattern of the same amplitude at each frequency, its phases those of noise."""
    generator = torch.Generator().manual_seed(seed)
    size = pattern.shape[-2:]
    # One noise for all colours keeps how they hang together.
    noise = torch.fft.rfft2(torch.randn(size, generator=generator)).to(pattern.device)
    turned = torch.fft.rfft2(pattern) * noise / noise.abs().clamp_min(1e-12)
    made: Tensor = torch.fft.irfft2(turned, s=size)
    return made


def kind_of(pattern: Tensor) -> str:
    """A word for a shared pattern that does no harm; see :class:`Verdict`."""
    energy = pattern.square().sum(dim=0)
    side = energy.shape[-1]
    total = float(energy.sum())
    if total < 1e-6 or (total / pattern.numel()) ** 0.5 < 1.5:
        return "faint"
    margin = side // 8
    inner = float(energy[margin:-margin, margin:-margin].sum())
    if inner < 0.1 * total:
        return "border"
    power = torch.fft.fft2(pattern - pattern.mean(dim=(-2, -1), keepdim=True)).abs().square()
    rows, columns = (_of_eight(length) for length in power.shape[-2:])
    onto = power[:, rows][:, :, columns].sum() / power.sum().clamp_min(1e-12)
    if float(onto) > 0.5:
        return "grid of 8"
    brightest = energy.flatten().sort(descending=True).values.cumsum(0)
    if float((brightest < 0.9 * total).double().mean()) < 0.25:
        return "local"
    return "without effect"


def _of_eight(length: int) -> Tensor:
    """The frequencies of what repeats after 8 pixels."""
    if length % 8:
        return torch.zeros(0, dtype=torch.long)
    return torch.arange(0, length, length // 8)
