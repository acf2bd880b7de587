"""Protocols A and B."""

import pytest

from uap_lightning.core.errors import UapError
from uap_lightning.results.protocols import Protocol


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_share_that_leaves_one_kind_is_refused(share):
    with pytest.raises(UapError) as error:
        Protocol(False, share)
    assert str(error.value) == (
        f"protocol perturbed_share is {share}: expected a probability between 0 and 1, such as the "
        "paper's 0.5."
    )


def test_a_share_between_is_kept():
    assert Protocol(True, 0.999).perturbed_share == 0.999
    assert Protocol(False, 1e-9).correct_only is False
