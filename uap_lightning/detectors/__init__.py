"""Detectors: modules that score what the rectifier removed; above 0 means perturbed."""

from uap_lightning.detectors.dct_svm import DctSvm
from uap_lightning.detectors.detector import Detector, fit_detector
from uap_lightning.detectors.no_detector import NoDetector

__all__ = ["DctSvm", "Detector", "NoDetector", "fit_detector"]
