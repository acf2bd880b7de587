"""Banks of published perturbations."""

import math

import numpy as np
import pytest

from tests.tiny import CAFFENET, STATED, call, truth
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, read_json
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import open_bank, perturbations_of
from uap_lightning.perturbations.synthetic import extend

LINF = Ball(math.inf, 10.0)


def test_published_files_become_a_bank_and_arrays_again(tmp_path, capsys):
    for seed in range(3):
        array = truth(16, seed)[::-1].transpose(1, 2, 0)  # H x W x C, BGR
        np.save(tmp_path / f"{seed}.npy", array[None].astype(np.float32))
    bank, fff = tmp_path / "bank", ("--format", "fff_npy", *STATED)
    call("import", bank, tmp_path / "0.npy", tmp_path / "1.npy", *fff, "--part", "train")
    before = digest_of(read_json(bank / "bank.json", "a bank"))
    call("import", bank, tmp_path / "2.npy", *fff, "--part", "test")
    opened = open_bank(bank, CAFFENET, LINF, 16)
    assert opened.identity != before
    assert (len(opened.train), len(opened.test)) == (2, 1)
    np.testing.assert_array_equal(opened.test[0].numpy(), truth(16, 2))
    assert opened.records[2].attack["source"] == "fff_npy"
    assert opened.records[2].fooling_ratio is None

    capsys.readouterr()
    call("list", bank, "--extended", 4)
    shown = capsys.readouterr().out
    for said in ("train-0001", "test-0000", "synthetic-0001", "caffenet", "fff_npy", "linf 10"):
        assert said in shown
    call("export", bank, tmp_path / "arrays")
    np.testing.assert_array_equal(np.load(tmp_path / "arrays" / "train-0001.npy"), truth(16, 1))


def test_a_bank_of_imports_takes_only_what_fits(tmp_path):
    np.save(tmp_path / "a.npy", truth(8, 0))
    np.save(tmp_path / "b.npy", truth(8, 1))
    np.save(tmp_path / "c.npy", truth(10, 2))
    bank = tmp_path / "bank"
    own = ("--orientation", "chw", "--order", "rgb", "--part", "test")
    call("import", bank, tmp_path / "a.npy", *own, *STATED)
    with pytest.raises(UapError, match=r"a\.npy has a cosine of 1\.000 to another"):
        call("import", bank, tmp_path / "b.npy", tmp_path / "a.npy", *own, *STATED)
    assert list(perturbations_of(bank)) == ["test-0000"]
    with pytest.raises(UapError, match="sides of 8, 10 pixels"):
        call("import", bank, tmp_path / "c.npy", *own, *STATED)
    with pytest.raises(UapError, match="is a bank with network caffenet: expected vgg_f"):
        call("import", bank, tmp_path / "b.npy", *own, *STATED, "--network", "vgg_f")
    with pytest.raises(UapError, match="the layout of the files is not stated"):
        call("import", bank, tmp_path / "b.npy", "--part", "test", *STATED)
    call("import", bank, tmp_path / "a.npy", *own, *STATED, "--max-cosine", 1.01)
    assert len(perturbations_of(bank)) == 2
    with pytest.raises(UapError, match="no perturbations for training"):
        extend(open_bank(bank, CAFFENET, LINF, 8).train, LINF, 4, 0)


def test_a_number_that_was_removed_is_not_given_twice(tmp_path):
    own = ("--orientation", "chw", "--order", "rgb", "--part", "test")
    files = [tmp_path / f"{seed}.npy" for seed in range(4)]
    for seed, file in enumerate(files):
        np.save(file, truth(8, seed))
    bank = tmp_path / "bank"
    call("import", bank, *files[:3], *own, *STATED)
    kept = (bank / "test-0002.safetensors").read_bytes()
    (bank / "test-0001.safetensors").unlink()
    call("import", bank, files[3], *own, *STATED)
    assert (bank / "test-0002.safetensors").read_bytes() == kept
    assert list(perturbations_of(bank)) == ["test-0000", "test-0002", "test-0003"]
    assert set(read_json(bank / "bank.json", "a bank")["files"]) == set(perturbations_of(bank))
    with pytest.raises(UapError, match="--max-cosine is nan"):
        call("import", bank, files[1], *own, *STATED, "--max-cosine", "nan")
    with pytest.raises(UapError, match="holds 0 training perturbations"):
        call("list", bank, "--extended", 4)
