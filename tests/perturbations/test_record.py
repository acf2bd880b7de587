"""One perturbation and its record."""

import pytest
import torch

from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.record import load_perturbation


def test_a_safetensors_file_that_is_no_perturbation_is_named(tmp_path):
    from uap_lightning.core.storage import write_tensors

    path = tmp_path / "x.safetensors"
    write_tensors(path, {"weight": torch.zeros(2)}, {})
    with pytest.raises(UapError, match="is not a perturbation file"):
        load_perturbation(path)
