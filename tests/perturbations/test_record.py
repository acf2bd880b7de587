"""One perturbation and its record."""

import dataclasses
import json

import pytest
import torch

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_tensors
from uap_lightning.perturbations.record import load_perturbation, save_perturbation


def test_a_safetensors_file_that_is_no_perturbation_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"weight": torch.zeros(2)}, {})
    with pytest.raises(UapError, match="is not a perturbation file"):
        load_perturbation(path)


CONTENT = {
    **{"network": "mine", "weights": "", "p": "inf", "eps": 10.0, "size": 4, "seed": 0},
    **{"attack": {"name": "x"}, "attempt": 0, "data": "", "passes": 0.0, "seconds": 0.0},
    **{"fooling_ratio": None, "fooling_ratio_unseen": 0.5, "cosine": 0.0, "l2": 1.0},
    **{"linf": 1.0, "version": "0"},
}


def written(path, record):
    write_tensors(path, {"rho": torch.ones(3, 4, 4)}, {"record": record})
    return load_perturbation(path)


def test_what_is_written_is_read(tmp_path):
    rho, record = written(tmp_path / "x.safetensors", json.dumps(CONTENT))
    assert dataclasses.asdict(record) == CONTENT
    save_perturbation(tmp_path / "y.safetensors", rho, record)
    again, same = load_perturbation(tmp_path / "y.safetensors")
    assert torch.equal(again, rho)
    assert same == record


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eps", "10"),
        ("size", 4.5),
        ("attack", []),
        ("fooling_ratio", "most"),
        ("seed", None),
        ("p", "3"),
        ("network", 7),
        ("network", "\ud800"),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path, key, value):
    with pytest.raises(UapError, match=r"x\.safetensors is not a perturbation file \(record"):
        written(tmp_path / "x.safetensors", json.dumps({**CONTENT, key: value}))
    missing = json.dumps({k: v for k, v in CONTENT.items() if k != key})
    with pytest.raises(UapError, match=f"record {key}: Field required"):
        written(tmp_path / "x.safetensors", missing)


@pytest.mark.parametrize("record", ["[" * 100_000, '{"attack": ' * 50_000, "", "{", "null"])
def test_a_record_that_is_no_json_is_told(tmp_path, record):
    with pytest.raises(UapError, match=r"x\.safetensors is not a perturbation file \(record"):
        written(tmp_path / "x.safetensors", record)
