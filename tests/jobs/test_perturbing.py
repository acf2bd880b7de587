"""What joins P* in training: further banks and procedural patterns."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny import QUICK_TRAIN, composed, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_json, write_json
from uap_lightning.jobs.evaluate import evaluate
from uap_lightning.jobs.perturbing import read_further, sampler_of
from uap_lightning.jobs.stages import find_bank, load_data_and_network
from uap_lightning.jobs.train import train
from uap_lightning.perturbations.bank import identities
from uap_lightning.perturbations.record import Record, save_perturbation

TINY = "uap_lightning.networks.tiny.tiny"


def write_bank(folder, size=32, part="train", network="another", photographs=()):
    rho = 10 * torch.randn(3, size, size, generator=torch.Generator().manual_seed(9)).sign()
    record = Record(
        network=network,
        weights="",
        p="inf",
        eps=10.0,
        size=size,
        attack={"name": "signs"},
        seed=0,
        attempt=0,
        data="",
        passes=0.0,
        seconds=0.0,
        fooling_ratio=None,
        fooling_ratio_unseen=None,
        cosine=0.0,
        l2=float(rho.norm()),
        linf=10.0,
        version="0",
    )
    described = {"network": network, "p": "inf", "eps": 10.0, "size": size}
    write_json(folder / "bank.json", {**described, "photographs": list(photographs)})
    save_perturbation(folder / f"{part}-0000.safetensors", rho, record)
    return rho


def parts(*words):
    cfg = typed_config("train", *QUICK_TRAIN, *words)
    data, network = load_data_and_network(cfg)
    return cfg, data, network


def test_further_and_procedural_ones_join_at_their_share():
    rho = write_bank(Path("other"), photographs=["one", "two"])
    cfg, data, network = parts("bank.further=[other]", "bank.procedural=7")
    bank = find_bank(cfg, data, network)
    further, photographs = read_further(cfg, data)
    assert photographs == {"one", "two"}
    sampler = sampler_of(cfg, bank, further)
    assert torch.equal(further, rho[None])
    assert len(sampler.perturbations) == 4 + 1 + 7
    assert torch.equal(sampler.perturbations[4], rho)
    assert sampler.weights.sum() == pytest.approx(1)
    assert sampler.weights[5:].sum() == pytest.approx(0.3)
    drawn = torch.bincount(sampler._draw(3000, torch.Generator().manual_seed(0)), minlength=12)
    assert 0.26 < float(drawn[5:].sum()) / 3000 < 0.34
    assert (drawn > 0).all()


def test_a_folder_of_banks_stands_for_those_in_it_that_have_training_perturbations():
    for name in ("banks/b", "banks/a/x"):
        write_bank(Path(name), photographs=[name])
    write_bank(Path("banks/c"), part="test")
    shutil.copytree("banks/b", "banks/d/.candidates")
    cfg, data, _ = parts("bank.further=[banks]")
    further, photographs = read_further(cfg, data)
    assert len(further) == 2
    assert photographs == {"banks/b", "banks/a/x"}
    # One that is named beside the folder it is in counts once.
    cfg, data, _ = parts("bank.further=[banks/b,banks]")
    assert len(read_further(cfg, data)[0]) == 2


def test_without_them_the_sampler_is_the_papers():
    cfg, data, network = parts("rectifier.training.vary=false")
    sampler = sampler_of(cfg, find_bank(cfg, data, network), read_further(cfg, data)[0])
    assert sampler.weights is None
    assert sampler.strengths is None
    assert len(sampler.perturbations) == cfg.bank.extended


def test_what_joined_cannot_be_tested_on():
    write_bank(Path("other"), photographs=["of the other bank"])
    write_bank(Path("tested"), part="test", network="tiny")
    composed_train = composed("train", *QUICK_TRAIN, "bank.further=[other]", "bank.procedural=3")
    train(composed_train)
    defense = Path("outputs/run/defense")
    known = json.loads((defense / "trained_on.json").read_text())
    assert identities(write_bank(Path("other"))[None])[0] in known["perturbations"]
    assert "of the other bank" in known["photographs"]
    assert len(known["photographs"]) > 1
    words = ["network=tiny", "data=generated", "name=run", f"defense={defense}"]
    words += ["bank.path=tested", "callbacks.panel.rows=2"]
    with pytest.raises(UapError, match="was trained on 1 of the 1 test perturbations"):
        evaluate(composed("evaluate", *words, output=Path("outputs/evaluate")))


def test_a_bank_of_another_size_without_training_ones_or_none_is_refused():
    write_bank(Path("large"), size=40)
    write_bank(Path("tested"), part="test")
    for folder, said in (("large", "40 x 40: expected data.crop"), ("tested", "no pert")):
        cfg, data, _ = parts(f"bank.further=[{folder}]")
        with pytest.raises(UapError, match=said):
            read_further(cfg, data)
    cfg, data, _ = parts("bank.further=[nowhere]")
    with pytest.raises(UapError, match=r"bank.further names nowhere"):
        read_further(cfg, data)


def test_photographs_of_the_test_that_were_crafted_on_are_counted():
    cfg, data, _ = parts("bank.further=[other]")
    write_bank(Path("other"), photographs=list(data.tested_on)[:2])
    with pytest.raises(UapError, match=r"bank.further names other, which was crafted on 2 of"):
        read_further(cfg, data)
    described = read_json(Path("other/bank.json"), "")
    assert len(described["photographs"]) == 2
    shutil.rmtree("other")


def test_values_out_of_range_are_named():
    for words, said in (
        (["bank.procedural=5", "bank.procedural_share=1"], "procedural_share is 1"),
        (["bank.procedural=-1"], "bank.procedural is -1"),
        (["rectifier.training.strengths=[2,1]"], "strengths is"),
        (["rectifier.training.strengths=[1]"], "strengths is"),
        (["rectifier.training.strengths=[0,1]"], "strengths is"),
        (["rectifier.training.loss.matching=-1"], "matching -1"),
        (["rectifier.training.loss.matching_from=0.05"], "matching_from is 0.05"),
        (["rectifier.training.loss.matching_from=1"], "matching_from is 1"),
        (["rectifier.training.loss.matching_from=0.5"], "and matching 0.0: expected one of"),
        (
            [
                "rectifier.training.loss.matching_from=0.5",
                "rectifier.training.loss.matching=1",
                "rectifier.training.loss.reconstruction=0",
            ],
            "reconstruction 0.0 and matching 1.0: expected one of the first two",
        ),
        (
            [
                "rectifier.training.loss.matching=1",
                "rectifier.training.loss.matched_networks=[{variant: 1}]",
            ],
            "matched_networks has an entry without _target_",
        ),
        (
            [f"rectifier.training.loss.matched_networks=[{{_target_: {TINY}}}]"],
            "matched_networks names 1 and matching is 0",
        ),
    ):
        with pytest.raises(UapError, match=said):
            typed_config("train", *QUICK_TRAIN, *words)


def test_a_filter_is_fitted_behind_all_of_them():
    write_bank(Path("other"))
    words = [word for word in QUICK_TRAIN if "rectifier" not in word]
    cfg = typed_config("train", *words, "rectifier=gaussian", "bank.further=[other]")
    data, network = load_data_and_network(cfg)
    sampler = sampler_of(cfg, find_bank(cfg, data, network), read_further(cfg, data)[0])
    assert len(sampler.perturbations) == 5
    assert replace(sampler, vary=False) == sampler
