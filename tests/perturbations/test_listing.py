"""A bank as a table and as plain arrays."""

import numpy as np

from tests.tiny import STATED, call, truth
from uap_lightning.perturbations import load_perturbation
from uap_lightning.perturbations.listing import table_of


def test_the_table_has_a_row_for_each(tmp_path):
    np.save(tmp_path / "v.npy", truth(8))
    call(
        *("import", tmp_path / "bank", tmp_path / "v.npy", "--part", "test"),
        *("--orientation", "chw", "--order", "rgb", *STATED),
    )
    (row,) = table_of(tmp_path / "bank")
    rho, _ = load_perturbation(str(tmp_path / "bank" / "test-0000.safetensors"))
    assert row["l2"] == f"{np.linalg.norm(truth(8)):.0f}"
    assert row["linf"] == f"{float(rho.abs().max()):.1f}"
    assert (row["nearest"], row["cosine"], row["seen"]) == ("", "", "unknown")
