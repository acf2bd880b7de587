"""Names of classes."""

import pytest
from torch import nn

from uap_lightning.core.errors import UapError
from uap_lightning.core.registry import Registry
from uap_lightning.detectors import DETECTORS
from uap_lightning.rectifiers import RECTIFIERS


def test_a_name_belongs_to_one_class():
    registry = Registry("rectifier", identity=nn.Identity)

    @registry.register("flat")
    class Flat(nn.Flatten):
        pass

    assert registry.find("flat") is Flat
    assert registry.name_of(Flat) == "flat"
    assert registry.register("flat")(Flat) is Flat
    with pytest.raises(UapError, match=r"Conv2d is registered as flat, .* choose another name"):
        registry.register("flat")(nn.Conv2d)
    assert registry.find("flat") is Flat
    for unnamed in (nn.Flatten, nn.ReLU, len):
        with pytest.raises(UapError, match=r'has no name .* @RECTIFIERS\.register\("NAME"\)'):
            registry.name_of(unnamed)
    with pytest.raises(UapError, match=r"'later' is no rectifier \(there are identity, flat\)"):
        registry.find("later")


@pytest.mark.parametrize("registry", [RECTIFIERS, DETECTORS], ids=lambda r: r.kind)
def test_every_class_of_ours_has_one_name(registry):
    # Another test of this process may have registered classes of its own.
    ours = {n: c for n, c in registry.items() if c.__module__.startswith("uap_lightning.")}
    assert len(set(ours.values())) == len(ours) > 1
    for name, found in ours.items():
        assert registry.name_of(found) == name
        assert found.__module__.startswith(f"uap_lightning.{registry.kind}s.")
