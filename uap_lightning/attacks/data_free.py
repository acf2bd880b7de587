"""The data-free UAP: overexcite the layers of the network, looking at no photograph."""

import torch
from torch import Tensor
from torch.nn import functional

from uap_lightning.attacks.descent import descend, gradient_of, random_start
from uap_lightning.attacks.excitation import EXCITATIONS
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.procedural import natural_noise

# Mean and spread of the pixels of photographs, RGB: what the priors know of data.
_MEAN = (123.7, 116.8, 103.9)
_SPREAD = 57.0
_PRIORS = ("natural", "none", "range", "own")
# Of the parts of the perturbation that stand for photographs: least share of its side.
_SMALLEST = 0.25


def data_free(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    steps: int = 100,
    batch_size: int = 1,
    step_size: float = 0.5,
    momentum: float = 0.9,
    excitation: str = "length",
    prior: str = "natural",
    contrast: float = 10.0,
    depth: float = 0.7,
    hardening: int = 0,
) -> Universal:
    """Excites the first layers on images that are no photographs, after GD-UAP (TPAMI 2019).

    Maximises sum_i log ||l_i(x + rho)||_2 over layers i (Mopuri, Ganeshan, Babu, equation 3),
    where l_i is the activation that a convolution or linear layer receives (the first layer,
    which sees the image itself, is left out) and x is no photograph. The steps are those of
    :func:`descend`. Two things are not GD-UAP's: the last layers are left out, as TRM-UAP
    (ICCV 2023) does, and x is faint noise with the spectrum of photographs. Both keep the
    perturbation from fooling this very x alone. ``prior="none", depth=1.0`` is GD-UAP.

    What three later attacks propose can be chosen instead, each by itself and without the rest of
    these attacks: ``excitation="ratio"`` raises what TRM-UAP raises (which takes convolutions alone
    and has a depth for either part), ``prior="own"`` excites parts of rho as PSP-UAP does (CVPR
    2025, which mixes them with noise, weighs and transforms them), and ``hardening`` changes the
    images first, as the inner problem of AT-UAP does (AAAI 2022). How many photographs each fools
    stands in docs/benchmarks.md.

    Args:
        network: the target network.
        images: only their size is used.
        predictions: not used.
        norm: the ball that rho lives in.
        seed: of the starting point and of the noise.
        steps: gradient steps.
        batch_size: noise images a step; one image is enough without noise.
        step_size: of the first step, as a share of the radius.
        momentum: of the gradient, from 0 to below 1.
        excitation: what is raised: ``length``, or ``ratio`` of the positive and negative values
            (:mod:`~uap_lightning.attacks.excitation`).
        prior: what x is: ``natural`` for noise with the spectrum of photographs, ``none`` for
            their mean colour, ``range`` for Gaussian noise with their mean and spread (section
            3.3 of GD-UAP), ``own`` for random parts of rho itself, enlarged: what it looks like
            to the network by now.
        contrast: deviation of ``natural`` and ``own`` images in pixel units, at least 0.
        depth: share of the layers that are excited, the first ones; above 0 and at most 1.
        hardening: steps in which each x is first changed within the ball, so that it is excited
            least; each costs a gradient.

    Raises:
        UapError: a setting is out of its range, the network has no such layers, or a gradient
            is not finite.
    """
    if prior not in _PRIORS or excitation not in EXCITATIONS:
        raise UapError(
            f"attack has prior {prior} and excitation {excitation}: expected one of "
            f"{', '.join(_PRIORS)}, and one of {', '.join(EXCITATIONS)}."
        )
    if batch_size < 1 or hardening < 0:
        raise UapError(
            f"attack has batch_size {batch_size} and hardening {hardening}: expected at least 1 "
            "image, and at least 0 steps."
        )
    if not 0 <= contrast <= 255 or not 0 < depth <= 1:
        raise UapError(
            f"attack has contrast {contrast} and depth {depth}: expected a contrast from 0 to 255, "
            "and a share of the layers above 0 and at most 1."
        )
    device = network.mean.device
    generator = torch.Generator().manual_seed(seed)
    size = images.take([0]).shape[1:]
    start = random_start(size, norm, generator)
    excite = EXCITATIONS[excitation]

    def quietness(rho: Tensor, background: Tensor) -> Tensor:
        return -excite(network, (background + rho).clamp(0, 255), depth).mean()

    def on_drawn(rho: Tensor, numbers: list[int]) -> Tensor:
        count = 1 if prior == "none" else batch_size  # all alike
        drawn = [_draw(prior, rho, contrast, generator) for _ in range(count)]
        background = torch.stack(drawn).to(device)
        fixed = rho.detach()
        for _ in range(hardening):
            at = background.requires_grad_()
            uphill = gradient_of(quietness(fixed, at), at)
            background = (at + norm.eps / hardening * norm.steepest(uphill)).detach()
        return quietness(rho, background)

    rho = descend(
        on_drawn,
        start,
        [[]] * steps,
        network,
        norm,
        step_size=step_size,
        momentum=momentum,
        description="Crafting a data-free UAP",
    )
    return Universal(rho.cpu(), 0.0)


def _draw(prior: str, rho: Tensor, contrast: float, generator: torch.Generator) -> Tensor:
    """An image that is no photograph, of the size of rho, on the processor."""
    mean = torch.tensor(_MEAN).view(3, 1, 1).expand(rho.shape)
    if prior == "range":
        return mean + _SPREAD * torch.randn(rho.shape, generator=generator)
    if prior == "natural":
        return mean + contrast * natural_noise(rho.shape[-1], generator)
    if prior == "own":
        return mean + contrast * enlarged_part(rho.detach().cpu(), generator)
    return mean


def enlarged_part(rho: Tensor, generator: torch.Generator) -> Tensor:
    """A random square of a perturbation at its full size: 3 x H x H, of mean 0 and deviation 1.

    Args:
        rho: 3 x H x H.
        generator: of the square's side, a quarter of H at least, and of its place.
    """
    size = rho.shape[-1]
    least = max(1, round(_SMALLEST * size))
    side = int(torch.randint(least, size + 1, (), generator=generator))
    top, left = torch.randint(0, size - side + 1, (2,), generator=generator).tolist()
    part = rho[None, :, top : top + side, left : left + side]
    large = functional.interpolate(part, (size, size), mode="bilinear", align_corners=False)[0]
    centred = large - large.mean()
    scaled: Tensor = centred / centred.std().clamp_min(1e-12)
    return scaled
