"""Rectifiers: modules that map images (float N x 3 x H x W, 0-255) to rectified images."""

from uap_lightning.core.registry import Registry
from uap_lightning.rectifiers.baselines import (
    JPEG,
    BitDepth,
    DCTCompression,
    Gaussian,
    Identity,
    Median,
    TotalVariation,
)
from uap_lightning.rectifiers.bilateral import Bilateral
from uap_lightning.rectifiers.prn import PRN
from uap_lightning.rectifiers.prn_fast import FastPRN
from uap_lightning.rectifiers.prn_residual import ResidualPRN
from uap_lightning.rectifiers.unet import UNet

# What a defence folder may name.
RECTIFIERS = Registry(
    "rectifier",
    prn=PRN,
    prn_residual=ResidualPRN,
    prn_fast=FastPRN,
    unet=UNet,
    identity=Identity,
    jpeg=JPEG,
    dct_compression=DCTCompression,
    bit_depth=BitDepth,
    gaussian=Gaussian,
    median=Median,
    bilateral=Bilateral,
    total_variation=TotalVariation,
)

__all__ = [
    "JPEG",
    "PRN",
    "RECTIFIERS",
    "Bilateral",
    "BitDepth",
    "DCTCompression",
    "FastPRN",
    "Gaussian",
    "Identity",
    "Median",
    "ResidualPRN",
    "TotalVariation",
    "UNet",
]
