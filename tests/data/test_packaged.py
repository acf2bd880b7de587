"""The photographs that packages carry."""

import pytest

from uap_lightning.core.errors import UapError
from uap_lightning.data.packaged import packaged_photographs


def test_packaged_photographs_test_on_labelled_ones_only():
    split = packaged_photographs()
    assert len(split.test) == 10
    assert all(photograph.label is not None for photograph in split.test)
    assert not set(split.train) & set(split.test)
    fewer = packaged_photographs(["coffee.png"])
    assert {p.path.name for p in split.train} - {p.path.name for p in fewer.train} == {"coffee.png"}
    with pytest.raises(UapError, match=r"data\.exclude names cofee\.png"):
        packaged_photographs(["cofee.png"])


def test_a_missing_package_is_named(monkeypatch):
    import uap_lightning.data.packaged as packaged

    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UapError, match=r"foolbox, which is not installed.*\[quickstart\]"):
        packaged_photographs()
