"""The verbs of ``python -m uap_lightning.perturbations``."""

import numpy as np
import pytest
import torch

from tests.tiny import STATED, call, truth
from uap_lightning.core.errors import UapError
from uap_lightning.perturbations import __main__ as entry
from uap_lightning.perturbations import importing
from uap_lightning.perturbations.bank import perturbations_of

OWN = [
    *("--orientation", "chw", "--order", "rgb", "--part", "test"),
    *(str(word) for word in STATED),
]


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


def test_what_others_wrote_is_shown_as_it_is(tmp_path, capsys):
    np.save(tmp_path / "v.npy", truth(8))
    own = ("--orientation", "chw", "--order", "rgb", "--part", "test")
    hostile = "[/bold][link=x]a\x1b[31m"
    stated = [hostile if word == "caffenet" else word for word in STATED]
    call("import", tmp_path / "bank", tmp_path / "v.npy", *own, *stated)
    capsys.readouterr()
    call("list", tmp_path / "bank")
    shown = capsys.readouterr().out
    assert "[/bold][link=x]a " in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("verb", ["list", "export", "import"])
def test_long_names_end_in_one_sentence(tmp_path, monkeypatch, capsys, verb):
    long = str(tmp_path / ("n" * 300))
    np.save(tmp_path / "v.npy", truth(8))
    words = {
        "list": [long],
        "export": [long, str(tmp_path / "arrays")],
        "import": [long, str(tmp_path / "v.npy"), *OWN],
    }[verb]
    monkeypatch.setattr("sys.argv", ["perturbations", verb, *words])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    assert "error: " in capsys.readouterr().err


def test_a_long_file_to_import_ends_in_one_sentence(tmp_path):
    with pytest.raises(UapError, match=r"n\.npy cannot be read as \.npy"):
        call("import", tmp_path / "bank", tmp_path / f"{'n' * 300}.npy", *OWN)


def test_an_interrupted_import_ends_in_one_sentence_and_can_be_repeated(
    tmp_path, monkeypatch, capsys
):
    for seed in range(2):
        np.save(tmp_path / f"{seed}.npy", truth(8, seed))
    words = [str(tmp_path / "bank"), str(tmp_path / "0.npy"), str(tmp_path / "1.npy"), *OWN]
    monkeypatch.setattr("sys.argv", ["perturbations", "import", *words])
    saved, calls = importing.save_perturbation, []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        saved(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(importing, "save_perturbation", stopped)
        with pytest.raises(SystemExit) as ended:
            entry.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("interrupted: ")
    assert list(perturbations_of(tmp_path / "bank")) == ["test-0000"]
    call("import", tmp_path / "bank", tmp_path / "1.npy", *OWN)
    assert list(perturbations_of(tmp_path / "bank")) == ["test-0000", "test-0001"]
