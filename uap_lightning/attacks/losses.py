"""What an attack minimises to fool a network, by name: of logits, the smaller the more fooled."""

from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

# Of cross-entropy, so that images that are fooled already do not take all of the gradient.
CLAMP = 9.0


def cosine(logits: Tensor, clean: Tensor, label: Tensor) -> Tensor:
    """Mean cosine of perturbed and clean logits (Zhang et al., ICCV 2021), N x K each."""
    return functional.cosine_similarity(logits, clean).mean()


def cross_entropy(logits: Tensor, clean: Tensor, label: Tensor) -> Tensor:
    """Minus the cross-entropy to the clean class (N), at most 9 an image (SGA, ICCV 2023)."""
    entropy = functional.cross_entropy(logits, label, reduction="none")
    return -entropy.clamp_max(CLAMP).mean()


def margin(logits: Tensor, clean: Tensor, label: Tensor) -> Tensor:
    """Mean of the clean class's logit less the largest other one."""
    own = functional.one_hot(label, logits.shape[1]).bool()
    return (logits[own] - logits.masked_fill(own, -torch.inf).amax(1)).mean()


LOSSES = MappingProxyType({"cosine": cosine, "cross_entropy": cross_entropy, "margin": margin})
