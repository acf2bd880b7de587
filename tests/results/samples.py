"""Results by formula, in files and read again."""

import json
from pathlib import Path

from uap_lightning.results.file import read_results
from uap_lightning.results.rows import find_results, gather_rows

NORM = {
    "linf": {"p": "inf", "eps": 10.0, "reference_size": None},
    "l2": {"p": 2, "eps": 2000.0, "reference_size": 224},
}


def a_row(train="tiny", train_norm="linf", test=None, test_norm=None, protocol="a", **more):
    """A result row as JSON, with numbers that differ from condition to condition."""
    test, test_norm = test or train, test_norm or train_norm
    rate = 60 + sum(map(ord, f"{train}{train_norm}{test}{test_norm}{protocol}")) % 370 / 10
    return {
        "train_network": train,
        "train_norm": train_norm,
        "test_network": test,
        "perturbation_network": test,
        "test_norm": test_norm,
        "protocol": protocol,
        "label_source": "ground_truth",
        "rectifier": "prn",
        "detector": "dct_svm",
        "attack": "cosine_uap",
        "n_images": 40,
        "n_photographs": 8,
        "n_perturbed": 19,
        "acc_clean": 91.5,
        "acc_perturbed": 21.5,
        "acc_rectified_perturbed": 71.5,
        "acc_rectified_mixed": 81.5,
        "acc_undefended_mixed": 51.5,
        "acc_defended": 82.5,
        "acc_defended_clean": 90.5,
        "fooling_ratio": 80.5,
        "prn_gain": rate - 20,
        "prn_restoration": rate - 1,
        "detection_rate": None,
        "defense_rate": rate,
        "undefended_rate": 55.25,
        "ci95": {"defense_rate": [rate - 3.21, rate + 2.5], "detection_rate": None},
        **more,
    }


def rate_of(*condition, **more):
    """The defense rate of a row."""
    return a_row(*condition, **more)["defense_rate"]


def result(status="ok", rows=None, data="imagenet", **more):
    """A results.json; ``more`` goes into its rows."""
    rows = [{**row, **more} for row in ([a_row()] if rows is None else rows)]
    norm = rows[0]["test_norm"]
    return {
        "schema": 1,
        "status": status,
        "reason": None if status != "failed" else "no disk | left\nat 5%",
        "seed": 0,
        "seconds": {"train": 1.0},
        "versions": {"torch": "2.15.0"},
        "commit": "0a84f74",
        "digests": {"bank": "ab12"},
        "config": {
            "name": "run",
            "norm": {"name": norm, **NORM[norm]},
            "data": {"name": data, "crop": 224},
        },
        "rows": rows,
    }


def write(folder, content):
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "results.json").write_text(json.dumps(content))


def found(*contents, published=()):
    """Results written to a folder each, read again, and their rows."""
    for number, content in enumerate(contents):
        write(f"runs/run-{number}", content)
    results = find_results(Path("runs"))
    return results, gather_rows(results, list(published))


def whole_network(train="googlenet"):
    """What Tables 1-3 hold of one network: both norms, same and different, both protocols."""
    return [
        result(rows=[a_row(train, train_norm, train, norm, protocol) for protocol in "ab"])
        for train_norm in ("linf", "l2")
        for norm in ("linf", "l2")
    ]


def typed(content):
    """A result as it is read from its file."""
    write("typed", content)
    return read_results(Path("typed/results.json"))
