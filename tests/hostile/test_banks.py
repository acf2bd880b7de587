"""A stranger's bank: perturbations, records and descriptions that no crafting wrote."""

import json
import math
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.hostile.files import WAYS, replace_file
from tests.hostile.keys import words

RHO = {
    "nan": lambda rho: rho * math.nan,
    "one nan": lambda rho: rho.index_put((torch.tensor([0]),) * 3, torch.tensor(math.nan)),
    "inf": lambda rho: rho * math.inf,
    "outside the ball": lambda rho: rho.sign() * 200,
    "just outside": lambda rho: rho.sign() * 10.5,
    "half": lambda rho: rho.half(),
    "double": lambda rho: rho.double(),
    "whole numbers": lambda rho: rho.to(torch.int8),
    "batch": lambda rho: rho[None],
    "grey": lambda rho: rho[:1],
    "smaller": lambda rho: rho[:, :16, :16].contiguous(),
    "oblong": lambda rho: rho[:, :, :16].contiguous(),
    "empty": lambda rho: rho[:, :0],
}
RECORD = {
    **{"network": "another", "p": "2", "eps": 5.0, "size": 16, "weights": "0" * 64},
}
ODD = {
    **{"none": None, "text": "abc", "nan": math.nan, "list": [1], "object": {"a": 1}},
    **{"huge": 10**30, "negative": -1, "markup": "[red]x[/red]", "close": "[/red]"},
    **{"surrogate": "\ud800", "escape": "\x1b[31mred", "newline": "a\nb", "true": True},
}
FIELDS = (
    *("network", "weights", "p", "eps", "size", "attack", "seed", "attempt", "data", "passes"),
    *("seconds", "fooling_ratio", "fooling_ratio_unseen", "cosine", "l2", "linf", "version"),
)


@pytest.fixture
def bank(material, tmp_path):
    shutil.copytree(material / "bank", tmp_path / "bank")
    return tmp_path / "bank"


def rewrite(path, change=None, record=None):
    """Write a perturbation again with another array or record."""
    with safe_open(path, framework="pt") as file:
        rho, metadata = file.get_tensor("rho"), file.metadata()
    known = json.loads(metadata["record"])
    if record is not None:
        metadata["record"] = record if isinstance(record, str) else json.dumps({**known, **record})
    save_file({"rho": rho if change is None else change(rho)}, path, metadata)


def use(hostile, material, command, bank, expect):
    """Test on the bank, train on it, list it, write it as arrays."""
    if command in ("list", "export"):
        target = ["arrays"] if command == "export" else []
        return hostile("perturbations.__main__", command, str(bank), *target, expect=expect)
    given = words(command, material, f"bank.path={bank}")
    return hostile(command, *given, expect=expect)


@pytest.mark.parametrize("name", ["train-0000", "test-0000"])
@pytest.mark.parametrize("command", ["evaluate", "train"])
@pytest.mark.parametrize("how", RHO)
def test_a_perturbation_that_no_ball_holds(how, command, name, bank, hostile, material):
    rewrite(bank / f"{name}.safetensors", RHO[how])
    use(hostile, material, command, bank, "sentence")


@pytest.mark.parametrize("command", ["list", "export"])
@pytest.mark.parametrize("how", RHO)
def test_a_perturbation_that_no_ball_holds_is_told_by_the_listing(
    how, command, bank, hostile, material
):
    rewrite(bank / "test-0000.safetensors", RHO[how])
    use(hostile, material, command, bank, "either")


@pytest.mark.parametrize("command", ["evaluate", "train"])
@pytest.mark.parametrize("key", RECORD)
def test_a_record_of_another_bank(key, command, bank, hostile, material):
    rewrite(bank / "test-0000.safetensors", record={key: RECORD[key]})
    use(hostile, material, command, bank, "sentence")


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize("field", FIELDS)
def test_a_record_with_an_odd_value(field, value, bank, hostile, material):
    """It is refused, or shown as it is."""
    rewrite(bank / "test-0000.safetensors", record={field: value})
    use(hostile, material, "list", bank, "either")


@pytest.mark.parametrize("command", ["list", "evaluate"])
@pytest.mark.parametrize(
    "record",
    ["", "nope", "[]", "null", "{}", "[" * 10_000, '{"a":' * 10_000, "1" * 5000, "\x00"],
    ids=["empty", "word", "list", "null", "object", "deep", "deep object", "number", "zero"],
)
def test_a_record_that_is_none(record, command, bank, hostile, material):
    rewrite(bank / "test-0000.safetensors", record=record)
    use(hostile, material, command, bank, "sentence")


@pytest.mark.parametrize("command", ["evaluate", "list"])
@pytest.mark.parametrize("how", WAYS)
def test_a_perturbation_file_that_is_something_else(how, command, bank, hostile, material):
    replace_file(bank / "test-0000.safetensors", how)
    use(hostile, material, command, bank, "either" if how == "missing" else "sentence")


@pytest.mark.parametrize("how", WAYS)
def test_a_description_that_is_something_else(how, bank, hostile, material):
    replace_file(bank / "bank.json", how)
    use(hostile, material, "evaluate", bank, "sentence")


@pytest.mark.parametrize("value", [*ODD, "missing"])
@pytest.mark.parametrize("key", ["network", "p", "eps", "size", "weights"])
def test_a_description_with_an_odd_value(key, value, bank, hostile, material):
    content = json.loads((bank / "bank.json").read_text())
    content.pop(key)
    if value != "missing":
        content[key] = ODD[value]
    (bank / "bank.json").write_text(json.dumps(content))
    expect = "either" if key == "weights" and value in ("missing", "none") else "sentence"
    use(hostile, material, "evaluate", bank, expect)
