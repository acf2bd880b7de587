"""``results.json`` as it is read, or refused."""

import math
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.results.samples import a_row, found, result, write
from uap_lightning.core.errors import UapError
from uap_lightning.results.file import read_results


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema: Input should be less than or equal to 1"),
        ({"schema": True}, "schema: Input should be a valid integer"),
        ({"status": "done"}, "status: Input should be 'ok', 'failed' or 'running'"),
        ({"rows": None}, "rows: Input should be a valid array"),
        ({"rows": [1]}, r"rows\.0: Input should be an object"),
        ({"rows": [{}]}, r"rows\.0\.train_network: Field required"),
        ({"rows": [a_row(protocol=None)]}, r"rows\.0\.protocol: Input should be a valid string"),
        (
            {"rows": [a_row(), a_row(prn_gain="high")]},
            r"rows\.1\.prn_gain: Input should be",
        ),
        (
            {"rows": [a_row(attack=["cosine_uap"])]},
            r"rows\.0\.attack: Input should be",
        ),
        (
            {"rows": [a_row(ci95={"prn_gain": [1.0]})]},
            r"ci95\.prn_gain\.1: Field required",
        ),
        ({"rows": [a_row(defense_rate=True)]}, r"rows\.0\.defense_rate: Input should be a valid"),
        ({"rows": [a_row(acc_clean=math.nan)]}, r"rows\.0\.acc_clean is nan"),
        ({"rows": [a_row(ci95={"prn_gain": [0.0, math.inf]})]}, r"ci95\.prn_gain\.1 is inf"),
        ({"config": {"norm": {"eps": [-math.inf]}}}, r"config\.norm\.eps\.0 is -inf"),
        ({"rows": [a_row(n_images=-1)]}, r"rows\.0\.n_images: Input should be greater"),
        ({"rows": [a_row(label_source="?")]}, r"rows\.0\.label_source: Input should be"),
        ({"config": None}, "config: Input should be an object"),
        ({"seconds": {"train": "long"}}, r"seconds\.train: Input should be a valid number"),
    ],
)
def test_results_of_another_kind_are_refused(change, said):
    write("runs/odd", {**result(), **change})
    with pytest.raises(UapError, match=said):
        read_results(Path("runs/odd/results.json"))
    # below a folder it stands as a failed run
    results, rows = found(result())
    assert [(r.name, r.content.status) for r in results] == [("odd", "failed"), ("run-0", "ok")]
    assert len(rows) == 1


def test_deep_json_is_refused_in_a_sentence():
    write("runs/odd", {})
    Path("runs/odd/results.json").write_text('{"config":' + "[" * 10_000 + "]" * 10_000 + "}")
    with pytest.raises(UapError, match=r"^runs/odd/results\.json is not valid JSON"):
        read_results(Path("runs/odd/results.json"))


def test_what_is_read_is_what_was_written_with_names_on_one_line():
    content = result(attack="=a\n\x1b[2Jb")
    write("runs/a", content)
    read = asdict(read_results(Path("runs/a/results.json")))
    assert read["rows"][0].pop("attack") == "=a b"
    ci95 = {key: end and tuple(end) for key, end in content["rows"][0]["ci95"].items()}
    row = {**content["rows"][0], "ci95": ci95, "ci95_perturbations": None}
    row |= {"stream_rate": None, "stream_rate_16": None}
    assert row.pop("attack")
    assert read == {**content, "rows": [row], "run_id": None, "bank": None}
