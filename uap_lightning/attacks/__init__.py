"""Universal attacks: one file each; all take clean images and give one perturbation."""

from uap_lightning.attacks.universal import Attack, Universal

__all__ = ["Attack", "Universal"]
