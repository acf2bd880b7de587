"""How well scores tell perturbed images from clean ones, whatever the threshold."""

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor


def area(clean: Tensor, perturbed: Tensor) -> float:
    """Area under the receiver operating characteristic of two sets of scores."""
    kinds = torch.cat([torch.zeros(len(clean)), torch.ones(len(perturbed))])
    return float(roc_auc_score(kinds.numpy(), torch.cat([clean, perturbed]).numpy()))


def hits(clean: Tensor, perturbed: Tensor, rate: float) -> float:
    """Share of perturbed scores above the threshold that this share of the clean ones exceeds."""
    threshold = clean.sort(descending=True).values[int(rate * len(clean))]
    return float((perturbed > threshold).double().mean())
