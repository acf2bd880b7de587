"""The verbs of ``python -m uap_lightning.perturbations``."""

import numpy as np
import pytest
import torch

from tests.tiny import STATED, call, truth
from uap_lightning.perturbations import __main__ as entry


def test_what_cannot_be_done_ends_in_one_sentence(tmp_path, monkeypatch, capsys):
    for verb in (["list"], ["export", "arrays"]):
        arguments = [verb[0], str(tmp_path / "none"), *verb[1:]]
        monkeypatch.setattr("sys.argv", ["perturbations", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        assert ended.value.code == 1
        assert "none holds no perturbations" in capsys.readouterr().err


def test_three_lines_add_one_perturbation_to_one_image(tmp_path, monkeypatch):
    np.save(tmp_path / "v.npy", truth(8))
    call(
        *("import", tmp_path / "banks" / "BANK", tmp_path / "v.npy", "--part", "test"),
        *("--orientation", "chw", "--order", "rgb", *STATED),
    )
    monkeypatch.chdir(tmp_path)
    from uap_lightning import perturbations

    lines = [line for line in perturbations.__doc__.splitlines() if line.startswith("    ")]
    assert len(lines) == 3
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    names = {"image": image}
    exec("\n".join(line.strip() for line in lines), names)
    expected = np.clip(image.numpy().astype(np.float32) + truth(8), 0, 255)
    np.testing.assert_allclose(names["perturbed"].numpy(), expected)
    assert names["record"].network == "caffenet"
