"""The paper's tables and figures: their commands, their refusals, and what they draw."""

import csv
import math
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from experiments import (
    cross_network_tables,
    dct_compression,
    examples,
    norm_tables,
    runs,
    synthetic_figure,
)
from tests.tiny import composed, environment, typed_config
from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.evaluate import evaluate
from uap_lightning.jobs.train import train
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.record import load_perturbation
from uap_lightning.perturbations.synthetic import synthesise
from uap_lightning.results.file import read_results

SCRIPTS = (norm_tables, cross_network_tables, synthetic_figure, dct_compression, examples)
PAPER = Path(__file__).parent.parent / "uap_lightning" / "results" / "paper.yaml"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_dry_run_prints_commands_that_compose_and_runs_nothing(script, tmp_path, capsys):
    script.main(["--dry-run", "--output", str(tmp_path / "out"), "experiment=paper"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 3
    assert not (tmp_path / "out").exists()
    seen = set()
    for line in lines:
        program, flag, module, *overrides = shlex.split(line)
        assert (program, flag) == ("python", "-m")
        kept = [override for override in overrides if not override.startswith("hydra.")]
        cfg = typed_config(module.partition(".")[2], *kept)
        seen.add((cfg.network["name"], cfg.norm.name))
    networks = {"caffenet", "vggf", "googlenet_bvlc"}
    norms = {"linf"} if script is examples else {"l2", "linf"}
    assert seen == {(network, norm) for network in networks for norm in norms}


@pytest.mark.parametrize("script", [norm_tables, dct_compression, synthetic_figure, examples])
def test_no_number_is_printed_without_a_result(script, tmp_path):
    with pytest.raises(SystemExit, match=r"results\.json is missing: expected a finished result"):
        script.main(["--table-only", "--output", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def in_this_process(words, **_):
    """What the command would do in a process of its own; the first one gets its own."""
    if not list(Path("out").glob("*")):
        return subprocess.run(words, check=False, env=environment())
    _, _, module, *overrides = words
    folder = Path(overrides[-1].partition("=")[2])
    assert overrides[-1].startswith("hydra.run.dir=")
    entry = {"train": train, "evaluate": evaluate, "craft": craft}[module.partition(".")[2]]
    entry(composed(module.partition(".")[2], *overrides[:-1], output=folder.resolve()))
    return subprocess.CompletedProcess(words, 0)


def test_the_tables_and_figures_are_drawn_from_runs_of_the_tiny_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(run=in_this_process))
    # One norm will do for the twin networks, and one network for the two norms.
    monkeypatch.setattr(cross_network_tables, "NORMS", ("linf",))
    cross_network_tables.main(["--smoke", "--output", "out"])
    table = Path("out/tables_4_and_5.md").read_text()
    row = read_results(Path("out/train-tiny-linf-test-twin-linf/results.json"))["rows"][0]
    assert (row["train_network"], row["test_network"]) == ("tiny", "twin")
    assert row["perturbation_network"] == "twin"
    line = next(x for x in table.splitlines() if x.startswith("| twin |"))
    assert f"{row['prn_restoration']:.1f} %" in line
    with Path("out/tables_4_and_5.csv").open() as file:
        written = list(csv.DictReader(file))
    assert len(written) == 8
    found = next(r for r in written if (r["train_network"], r["test_network"]) == ("tiny", "twin"))
    assert float(found["defense_rate"]) == row["defense_rate"]
    assert Image.open("out/tables_4_and_5.png").width > 500

    norm_tables.main(["--smoke", "--output", "out"])
    crossed = read_results(Path("out/train-tiny-linf-test-tiny-l2/results.json"))["rows"]
    with Path("out/tables_1_to_3.csv").open() as file:
        found = [
            float(r["defense_rate"])
            for r in csv.DictReader(file)
            if r["train_network"] == "tiny" and r["train_norm"] != r["test_norm"] == "l2"
        ]
    assert found == [r["defense_rate"] for r in crossed]
    examples.main(["--smoke", "--output", "out"])
    assert Image.open("out/figure_4_train-twin-linf.png").width > 500

    photograph = read_split("out/train-tiny-linf")["test"][0]
    examples.main(["--run", "out/train-tiny-linf", "--file", photograph, "--picture", "p.png"])
    assert Image.open("p.png").width > 500

    monkeypatch.setattr(synthetic_figure, "NORMS", ("linf",))
    monkeypatch.setattr(dct_compression, "NORMS", ("linf",))
    synthetic_figure.main(["--smoke", "--output", "out", "--count", "4"])
    check_matches(Path("out"))
    dct_compression.main(["--smoke", "--table-only", "--output", "out"])
    check_points(Path("out"))


def read_split(folder):
    return yaml.safe_load((Path(folder) / "split.json").read_text())


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
    rows = read_results(folder / "train-tiny-linf" / "results.json")["rows"]
    assert float(points[0]["fooling_ratio"]) == pytest.approx(rows[0]["fooling_ratio"])
    assert float(points[0]["acc_clean"]) == pytest.approx(rows[0]["acc_clean"])
    assert Image.open(folder / "dct_compression.png").width > 500


def test_the_published_numbers_are_those_of_the_tables():
    rows = yaml.safe_load(PAPER.read_text())["rows"]
    assert len(rows) == 3 * 8 + 2 * 9
    at = {
        (r["table"], r["test_network"], r["train_network"], r["train_norm"], r["test_norm"],
         r["protocol"]): r
        for r in rows
    }  # fmt: skip
    assert len(at) == len(rows)
    google, caffe, vgg = "googlenet_bvlc", "caffenet", "vggf"
    # Read off the paper by eye, one from each part of each table.
    assert at[1, google, google, "l2", "l2", "a"]["defense_rate"] == 97.4
    assert at[1, google, google, "l2", "linf", "b"]["detection_rate"] == 81.2
    assert at[2, caffe, caffe, "linf", "linf", "a"]["prn_gain"] == 78.4
    assert at[2, caffe, caffe, "linf", "l2", "a"]["detection_rate"] == 84.2
    assert at[3, vgg, vgg, "linf", "linf", "b"]["prn_restoration"] == 83.2
    assert at[3, vgg, vgg, "l2", "linf", "a"]["defense_rate"] == 93.7
    assert at[4, caffe, google, "l2", "l2", "a"]["defense_rate"] == 77.3
    assert at[4, google, vgg, "l2", "l2", "a"]["prn_restoration"] == 84.7
    assert at[5, vgg, google, "linf", "linf", "a"]["defense_rate"] == 74.8
    assert at[5, google, caffe, "linf", "linf", "a"]["prn_restoration"] == 83.3


@pytest.mark.parametrize("network", ["caffenet", "vggf", "googlenet_bvlc"])
@pytest.mark.parametrize(("norm", "p", "eps"), [("l2", 2, 2000), ("linf", float("inf"), 10)])
def test_the_preset_has_every_number_of_sections_4_and_5(network, norm, p, eps):
    cfg = typed_config("train", "experiment=paper", f"network={network}", f"norm={norm}")
    assert (cfg.norm.p, cfg.norm.eps) == (p, eps)
    # Section 4.1: five blocks, 64 maps, 16 in the last but one, 3 x 3 filters.
    model = cfg.rectifier.model
    assert [model[k] for k in ("blocks", "width", "tail_width", "tail_kernel")] == [5, 64, 16, 3]
    # Adam with these rates, decayed by 10 % after each 1,000 iterations, batches of 64, 5 epochs.
    optimizer, scheduler = cfg.rectifier.training.optimizer, cfg.rectifier.training.scheduler
    assert optimizer["_target_"] == "torch.optim.Adam"
    assert (optimizer["lr"], optimizer["betas"]) == (0.01, [0.9, 0.999])
    assert (scheduler["step_size"], scheduler["gamma"]) == (1000, 0.9)
    assert (cfg.rectifier.training.batch_size, cfg.rectifier.training.epochs) == (64, 5)
    # Section 4.2 and 5: 25 perturbations, 20 and 5, fooling at least 0.8, dot product at most
    # 0.15, extended to 250.
    bank = cfg.bank
    assert (bank.train, bank.test, bank.extended) == (20, 5, 250)
    assert (bank.min_fooling_ratio, bank.max_cosine) == (0.8, 0.15)
    # 50,000 images: 40,000 train, 10,000 test, 10,000 crafted on; five crops of 224.
    data, source = cfg.data, cfg.data["source"]
    assert source["images"] == 50_000
    assert source["images"] * (1 - source["test_share"]) == 40_000
    assert source["images"] * (1 - source["test_share"]) * data["craft_share"] == 10_000
    assert (data["crop"], data["train_crops"]) == (224, 5)
    # Perturbed with probability 0.5; both protocols.
    assert cfg.rectifier.training.perturbed_share == 0.5
    assert {n: (q.correct_only, q.perturbed_share) for n, q in cfg.protocol.items()} == {
        "a": (False, 0.5),
        "b": (True, 0.5),
    }


def test_networks_are_told_apart_or_refused(capsys):
    two = ["--network", "network=timm network.model=a", "--network", "network=timm network.model=b"]
    norm_tables.main(["--dry-run", "experiment=paper", *two, "data.root=X"])
    said = capsys.readouterr().out
    assert all(f"train-{name}-l2" in said for name in "ab")
    assert said.count("data.root=X") == said.count("\n")
    with pytest.raises(SystemExit, match="two networks are called vggf"):
        norm_tables.main(["--dry-run", "--network", "network=vggf", "--network", "network=vggf"])
    with pytest.raises(SystemExit, match="expected overrides that choose a network"):
        norm_tables.main(["--dry-run", "--network", "network.weights=f"])
