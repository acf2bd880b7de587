"""Craft universal adversarial perturbations, defend classifiers against them, measure both."""

__version__ = "0.1.0"
