"""Random signs: the floor that a perturbation has to rise above."""

import torch
from torch import Tensor

from uap_lightning.attacks.universal import Universal
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


def random_signs(
    network: TargetNetwork, images: Images, predictions: Tensor, norm: Ball, seed: int
) -> Universal:
    """Signs drawn independently for each value, scaled to the surface of the ball.

    The random perturbation that the literature compares with (section 3 of Moosavi-Dezfooli et
    al., CVPR 2017): it looks at neither the network nor the images.

    They fool 0.22 (l_inf) and 0.15 (l_2) of unseen photographs on EfficientNet-Lite0, 0.43 and
    0.19 on SqueezeNet (docs/benchmarks.md).

    Args:
        network: not used.
        images: only their size is used.
        predictions: not used.
        norm: the ball that rho lives in.
        seed: of the signs.
    """
    generator = torch.Generator().manual_seed(seed)
    coins = torch.randint(2, images.take([0]).shape[1:], generator=generator)
    return Universal(norm.project(norm.eps * norm.normalise(coins * 2.0 - 1)), 0.0)
