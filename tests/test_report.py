"""Tables from results.json, and results that are refused."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from uap_lightning.config import find_conf, register_schemas
from uap_lightning.errors import UapError
from uap_lightning.report import markdown, report, show
from uap_lightning.results import read_results


def result(status="ok", rate=95.25, **row):
    return {
        "schema": 1,
        "status": status,
        "reason": None if status == "ok" else "no disk",
        "seconds": {"train": 1.0},
        "config": {"name": "run"},
        "rows": [
            {
                "train_network": "tiny",
                "train_norm": "linf",
                "test_network": "tiny",
                "test_norm": "l2",
                "protocol": "a",
                "defense_rate": rate,
                "detection_rate": None,
                "n_images": 40,
                "ci95": {"defense_rate": [90.0, 99.96]},
                **row,
            }
        ]
        if status == "ok"
        else [],
    }


def test_markdown_shows_numbers_with_their_intervals():
    text = markdown([result(), result(test_norm="linf")])
    lines = text.splitlines()
    assert "tiny linf → tiny l2, Prot-A | tiny linf, Prot-A |" in lines[0]
    assert "| Defense rate | 95.2 % [90.0, 100.0] | 95.2 % [90.0, 100.0] |" in lines
    assert "| Detection rate | n/a | n/a |" in lines
    assert "| Test images | 40 | 40 |" in lines
    assert all(line.count("|") == 4 for line in lines)


def test_failed_runs_are_shown_with_their_reason(capsys):
    show([result(), result("failed")])
    out = capsys.readouterr().out
    assert "run: failed: no disk" in out
    assert "95.2 %" in out


def test_the_command_writes_the_table():
    for name in ("a", "b"):
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(result()))
    register_schemas()
    with initialize_config_dir(find_conf(), version_base="1.3"):
        report(compose("report", ["results=runs", "output=table.md"]))
        assert Path("table.md").read_text() == markdown([result(), result()])
        report(compose("report", ["results=runs/a/results.json"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "has schema 2"),
        ({"status": "done"}, "has status done"),
        ({"rows": None}, "has no rows"),
    ],
)
def test_results_of_another_kind_are_refused(change, said):
    Path("results.json").write_text(json.dumps({**result(), **change}))
    with pytest.raises(UapError, match=said):
        read_results(Path("results.json"))
