"""Rectifiers: modules that map images (float N x 3 x H x W, 0-255) to rectified images."""

from uap_lightning.rectifiers.baselines import (
    JPEG,
    BitDepth,
    DCTCompression,
    Gaussian,
    Identity,
    Median,
    TotalVariation,
)
from uap_lightning.rectifiers.prn import PRN
from uap_lightning.rectifiers.prn_residual import ResidualPRN

__all__ = [
    "JPEG",
    "PRN",
    "BitDepth",
    "DCTCompression",
    "Gaussian",
    "Identity",
    "Median",
    "ResidualPRN",
    "TotalVariation",
]
