"""No detector: every image is rectified."""

import torch

from uap_lightning.detectors import NoDetector


def test_no_detector_fires_always():
    detector = NoDetector()
    assert (detector(torch.zeros(4, 3, 8, 8)) > 0).all()
    detector.fit(detector.features(torch.zeros(4, 3, 8, 8)), torch.ones(4, dtype=torch.bool))
