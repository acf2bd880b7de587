"""Target networks: one frozen wrapper, and one file per place that classifiers come from."""

from uap_lightning.networks.target import TargetNetwork, check_images

__all__ = ["TargetNetwork", "check_images"]
