"""Detectors: modules that score what the rectifier removed; above 0 means perturbed."""

from uap_lightning.core.registry import Registry
from uap_lightning.detectors.conv import ConvDetector
from uap_lightning.detectors.dct_svm import DctSvm
from uap_lightning.detectors.detector import Detector, calibrate, fit_detector
from uap_lightning.detectors.no_detector import NoDetector

# What a defence folder may name.
DETECTORS = Registry("detector", dct_svm=DctSvm, conv=ConvDetector, none=NoDetector)

__all__ = [
    "DETECTORS",
    "ConvDetector",
    "DctSvm",
    "Detector",
    "NoDetector",
    "calibrate",
    "fit_detector",
]
