"""Perturbations towards one class."""

import pytest

from uap_lightning.attacks.targeted_uap import targeted_uap
from uap_lightning.core.errors import UapError


def test_a_targeted_perturbation_makes_the_network_say_its_class(network, images, labels, linf):
    for target in (2, 5):
        crafted = targeted_uap(network, images, labels, linf, 0, target=target, steps=60)
        assert crafted.drawn == {"target": target}
        said = network.predict((images.images.float() + crafted.rho).clamp(0, 255))
        before = float((labels == target).float().mean())
        assert float((said == target).float().mean()) > max(0.7, before + 0.4)
    with pytest.raises(UapError, match=r"attack\.target is 8: expected .* 0 to 7"):
        targeted_uap(network, images, labels, linf, 0, target=8)
