"""What the scripts draw, from runs of the tiny network."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from experiments import (
    cross_network_tables,
    dct_compression,
    examples,
    extension_ablation,
    norm_tables,
    runs,
    synthetic_figure,
)
from tests.tiny import composed
from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.evaluate import evaluate
from uap_lightning.jobs.train import train
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.record import load_perturbation
from uap_lightning.perturbations.synthetic import synthesise
from uap_lightning.results.file import read_results

LAUNCH = runs.launch


def in_this_process(job, seconds):
    """What the command would do in a process of its own; the first one gets its own."""
    if not list(Path("out").glob("*")):
        return LAUNCH(job, seconds)
    _, module, *overrides = job.command
    folder = Path(overrides[-1].partition("=")[2])
    assert overrides[-1].startswith("hydra.run.dir=")
    entry = {"train": train, "evaluate": evaluate, "craft": craft}[module.partition(".")[2]]
    entry(composed(module.partition(".")[2], *overrides[:-1], output=folder.resolve()))
    return 0


def test_the_tables_and_figures_are_drawn_from_runs_of_the_tiny_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "launch", in_this_process)
    # One norm will do for the twin networks, and one network for the two norms.
    monkeypatch.setattr(cross_network_tables, "NORMS", ("linf",))
    cross_network_tables.main(["--smoke", "--output", "out"])
    table = Path("out/tables_4_and_5.md").read_text()
    row = read_results(Path("out/train-tiny-linf-test-twin-linf/results.json")).rows[0]
    assert (row.train_network, row.test_network) == ("tiny", "twin")
    assert row.perturbation_network == "twin"
    line = next(x for x in table.splitlines() if x.startswith("| twin |"))
    assert f"{row.prn_restoration:.1f} %" in line
    with Path("out/tables_4_and_5.csv").open() as file:
        written = list(csv.DictReader(file))
    assert len(written) == 8
    found = next(r for r in written if (r["train_network"], r["test_network"]) == ("tiny", "twin"))
    assert float(found["defense_rate"]) == row.defense_rate
    assert Image.open("out/tables_4_and_5.png").width > 500

    norm_tables.main(["--smoke", "--output", "out"])
    crossed = read_results(Path("out/train-tiny-linf-test-tiny-l2/results.json")).rows
    with Path("out/tables_1_to_3.csv").open() as file:
        found = [
            float(r["defense_rate"])
            for r in csv.DictReader(file)
            if r["train_network"] == "tiny" and r["train_norm"] != r["test_norm"] == "l2"
        ]
    assert found == [r.defense_rate for r in crossed]
    examples.main(["--smoke", "--output", "out"])
    assert Image.open("out/figure_4_train-twin-linf.png").width > 500

    photograph = read_split("out/train-tiny-linf")["test"][0]
    examples.main(["--run", "out/train-tiny-linf", "--file", photograph, "--picture", "p.png"])
    assert Image.open("p.png").width > 500

    examples.main(["--run", "out/train-tiny-linf", "--file", photograph, "--output", "new"])
    assert Image.open("new/figure_4_train-tiny-linf.png").size == Image.open("p.png").size

    bank = next(Path("banks").glob("tiny-linf-*"))
    of_bank = ["--bank", str(bank), "--defense", "out/train-tiny-linf/defense"]
    shown = ["--network", "network=tiny", "--file", photograph]
    examples.main([*of_bank, *shown, "--picture", "q.png"])
    assert Path("q.png").read_bytes() == Path("p.png").read_bytes()
    with pytest.raises(SystemExit, match="error: --defense needs its perturbations"):
        examples.main([*of_bank[2:], *shown])
    other = next(Path("banks").glob("tiny-l2-*"))
    with pytest.raises(SystemExit, match=f"^error: bank.path is {other}, whose p is 2"):
        examples.main(["--bank", str(other), *of_bank[2:], *shown])

    monkeypatch.setattr(extension_ablation, "NORMS", ("linf",))
    check_ablation()

    monkeypatch.setattr(synthetic_figure, "NORMS", ("linf",))
    monkeypatch.setattr(dct_compression, "NORMS", ("linf",))
    synthetic_figure.main(["--smoke", "--output", "out", "--count", "4"])
    check_matches(Path("out"))
    dct_compression.main(["--smoke", "--table-only", "--output", "out"])
    check_points(Path("out"))


def read_split(folder):
    return yaml.safe_load((Path(folder) / "split.json").read_text())


def check_ablation():
    """Four trainings a network, at equal steps, with the members of P* that they should have."""
    extension_ablation.main(["--smoke", "--output", "out"])
    found = {}
    for kind in ("none", "algorithm_1", "vary", "both"):
        content = read_results(Path(f"out/train-tiny-linf-{kind}/results.json"))
        training = content.config["rectifier"]["training"]
        found[kind] = (content.config["bank"]["extended"], training["vary"])
        assert training["steps"] == 3
    assert found == {
        "none": (2, False),
        "algorithm_1": (3, False),
        "vary": (2, True),
        "both": (3, True),
    }
    lines = Path("out/extension_ablation.md").read_text().splitlines()
    shown = [line.split(" | ")[:2] for line in lines if line.startswith("| tiny")]
    kinds = list(found)
    assert [kind for _, kind in shown] == kinds * 2
    assert {name for name, _ in shown} == {"| tiny, ℓ∞, Prot-A", "| tiny, ℓ∞, Prot-B"}
    with Path("out/extension_ablation.csv").open() as file:
        written = list(csv.DictReader(file))
    assert len(written) == 2 * 2 * 4


def check_matches(folder):
    """The nearest crafted perturbation, by brute force."""
    with (folder / "figure_3.csv").open() as file:
        matches = list(csv.DictReader(file))
    assert len(matches) == 8
    for network in ("tiny", "twin"):
        bank = next(Path("banks").glob(f"{network}-linf-*"))
        crafted = [load_perturbation(path)[0] for path in sorted(bank.glob("train-*.safetensors"))]
        chosen = [match for match in matches if match["network"] == network]
        synthetic = synthesise(torch.stack(crafted), Ball(math.inf, 10.0), len(chosen), 0)
        units = [rho.double().numpy().ravel() for rho in crafted]
        units = [rho / np.linalg.norm(rho) for rho in units]
        for match, rho in zip(chosen, synthetic.double().numpy(), strict=True):
            dots = [float(rho.ravel() @ unit / np.linalg.norm(rho)) for unit in units]
            assert int(match["nearest"]) == int(np.argmax(dots))
            assert float(match["dot_product"]) == pytest.approx(max(dots), rel=1e-5)
            assert float(match["linf"]) == pytest.approx(10, rel=1e-5)
            assert float(match["l2"]) == pytest.approx(float(np.linalg.norm(rho)), rel=1e-5)
    assert Image.open(folder / "figure_3.png").width > 500
    assert "0.83 (CaffeNet)" in (folder / "figure_3.md").read_text()


def check_points(folder):
    """Without compression the fooling ratio is the run's; nothing survives the strongest one."""
    with (folder / "dct_compression.csv").open() as file:
        points = [p for p in csv.DictReader(file) if p["network"] == "tiny"]
    assert [float(p["compression"]) for p in points] == list(dct_compression.RATES)
    rows = read_results(folder / "train-tiny-linf" / "results.json").rows
    assert float(points[0]["fooling_ratio"]) == pytest.approx(rows[0].fooling_ratio)
    assert float(points[0]["acc_clean"]) == pytest.approx(rows[0].acc_clean)
    assert Image.open(folder / "dct_compression.png").width > 500
