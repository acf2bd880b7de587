"""Sets of perturbations: the bank P, the synthetic P_s, and how training draws from P*.

One perturbation on one image (uint8 or float, 3 x H x W, RGB, 0-255), in three lines::

    from uap_lightning.perturbations import load_perturbation
    rho, record = load_perturbation("banks/BANK/test-0000.safetensors")
    perturbed = (image + rho).clamp(0, 255)
"""

from uap_lightning.perturbations.record import Record, load_perturbation

__all__ = ["Record", "load_perturbation"]
