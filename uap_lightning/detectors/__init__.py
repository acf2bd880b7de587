"""Detectors: modules that score what the rectifier removed; above 0 means perturbed."""

from uap_lightning.core.registry import Registry
from uap_lightning.detectors.dct_svm import DctSvm
from uap_lightning.detectors.detector import Detector, fit_detector
from uap_lightning.detectors.no_detector import NoDetector

# What a defence folder may name.
DETECTORS = Registry("detector", dct_svm=DctSvm, none=NoDetector)

__all__ = ["DETECTORS", "DctSvm", "Detector", "NoDetector", "fit_detector"]
