"""What joins P* in training: further banks and procedural patterns."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.jobs.made_banks import write_bank
from tests.tiny import QUICK_TRAIN, composed, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import read_json
from uap_lightning.jobs.evaluate import evaluate
from uap_lightning.jobs.perturbing import apart_from, read_further, sampler_of
from uap_lightning.jobs.stages import find_bank, load_data_and_network
from uap_lightning.jobs.train import train, training_condition
from uap_lightning.perturbations.bank import identities, read_bank
from uap_lightning.perturbations.resizing import rescaled

TINY = "uap_lightning.networks.tiny.tiny"


def parts(*words):
    cfg = typed_config("train", *QUICK_TRAIN, *words)
    data, network = load_data_and_network(cfg)
    return cfg, data, network


@pytest.mark.parametrize("made", [0, 7])
def test_each_group_is_drawn_as_often_as_the_bank_and_procedural_ones_at_their_share(made):
    """A group of three and one of one beside the bank's four: 4 + 3 + 1."""
    rho = [write_bank(Path(f"many/{n}"), photographs=["one"], seed=n) for n in range(3)]
    rho.append(write_bank(Path("other"), photographs=["two"], seed=3))
    cfg, data, network = parts("bank.further=[many,other]", f"bank.procedural={made}")
    bank = find_bank(cfg, data, network)
    further, seen = read_further(cfg, data)
    assert seen.photographs == ["one", "two"]
    assert not seen.perturbations
    assert [len(group) for group in further] == [3, 1]
    assert torch.equal(torch.cat(further), torch.stack(rho))
    sampler = sampler_of(cfg, bank, further)
    assert len(sampler.perturbations) == 8 + made
    assert torch.equal(sampler.perturbations[4:8], torch.stack(rho))
    drawn = torch.bincount(sampler._draw(9000, torch.Generator().manual_seed(0)), minlength=8)
    crafted = 1 - 0.3 * (made > 0)
    expected = [crafted / 12] * 4 + [crafted / 9] * 3 + [crafted / 3] + [0.3 / 7] * made
    # Four deviations of the rarest.
    assert (drawn / 9000).numpy() == pytest.approx(expected, rel=0.2)


def test_copies_at_other_scales_join_their_group_and_share_its_draws():
    rho = write_bank(Path("other"), photographs=["two"], seed=3)
    cfg, data, network = parts("bank.further=[other]", "bank.rescaled=2")
    bank = find_bank(cfg, data, network)
    further, _ = read_further(cfg, data)
    sampler = sampler_of(cfg, bank, further)
    own, other = sampler.perturbations[:12], sampler.perturbations[12:]
    assert torch.equal(own[4:], rescaled(own[:4], 2, cfg.seed))
    assert torch.equal(other[0], rho)
    # Of a seed of their own: in all groups the same few scales would be drawn otherwise.
    assert torch.equal(other[1:], rescaled(rho[None], 2, cfg.seed + 1))
    assert sampler.weights is not None
    assert sampler.weights.tolist() == pytest.approx([1 / 24] * 12 + [1 / 6] * 3)


def test_smaller_ones_are_continued_by_their_mirror_images_when_told():
    rho = write_bank(Path("small"), photographs=["one"], size=20)
    cfg, data, _ = parts("bank.further=[small]")
    with pytest.raises(UapError, match=r"whose perturbations are 20 x 20.*bank.mirrored=true"):
        read_further(cfg, data)
    cfg, data, _ = parts("bank.further=[small]", "bank.mirrored=true")
    further, seen = read_further(cfg, data)
    assert seen.photographs == ["one"]
    assert seen.perturbations == identities(rho[None])
    padded = np.pad(rho.numpy(), ((0, 0), (0, 12), (0, 12)), mode="symmetric")
    assert np.array_equal(further[0][0].numpy(), padded)
    rho = write_bank(Path("large"), photographs=["one"], size=40)
    cfg, data, _ = parts("bank.further=[large]", "bank.mirrored=true")
    with pytest.raises(UapError, match=r"whose perturbations are 40 x 40"):
        read_further(cfg, data)


def test_a_folder_of_banks_stands_for_those_in_it_that_have_training_perturbations():
    names = ("banks/e", "banks/a/x", "banks/b", "banks/d", "banks/c", "linked/f")
    rho = {name: write_bank(Path(name), photographs=[name], seed=n) for n, name in enumerate(names)}
    write_bank(Path("banks/tested"), part="test")
    shutil.copytree("banks/b", "banks/g/.candidates")
    Path("banks/linked").symlink_to(Path("linked").resolve())
    Path("banks/a/round").symlink_to(Path("banks").resolve())
    cfg, data, _ = parts("bank.further=[banks]")
    further, seen = read_further(cfg, data)
    # By name, whatever order the disk lists them in: draws and digests depend on it.
    (together,) = further
    assert torch.equal(together, torch.stack([rho[name] for name in sorted(names)]))
    assert set(seen.photographs) == set(names)
    # One that is named beside the folder it is in counts once.
    cfg, data, _ = parts("bank.further=[banks/b,banks]")
    first, rest = read_further(cfg, data)[0]
    assert torch.equal(first, rho["banks/b"][None])
    assert len(rest) == len(names) - 1
    # The other way round the second would have nothing of its own, and no draws.
    cfg, data, _ = parts("bank.further=[banks,banks/b]")
    with pytest.raises(UapError, match=r"names banks/b, whose banks are all in folders named bef"):
        read_further(cfg, data)
    # A folder that is named is taken, whatever its name begins with.
    cfg, data, _ = parts("bank.further=[banks/g/.candidates]")
    assert torch.equal(read_further(cfg, data)[0][0][0], rho["banks/b"])


def test_how_further_banks_are_grouped_is_part_of_what_was_trained():
    """It changes the draws, so a checkpoint of another grouping is not gone on from."""
    for name in "ab":
        write_bank(Path(f"banks/{name}"), seed=ord(name))
    said = []
    for named in ("banks", "banks/a,banks/b", "banks/b,banks/a"):
        cfg, data, network = parts(f"bank.further=[{named}]")
        bank = find_bank(cfg, data, network)
        condition = training_condition(cfg, data, network, bank, read_further(cfg, data)[0])
        said.append(condition["further"])
    assert len(set(said)) == 3


def test_what_the_bank_has_joins_once_and_what_is_tested_on_not_at_all(caplog):
    own = {"network": "tiny", "seed": 1}
    rho = write_bank(Path("own"), **own)
    tested = write_bank(Path("own"), part="test", network="tiny", seed=2)
    bank = read_bank(Path("own"), ["train-0000", "test-0000"])
    other = write_bank(Path("other"), seed=3)
    more = write_bank(Path("other"), seed=4)
    joining = [torch.stack([other, rho, other]), rho[None], torch.stack([other, more])]
    first, second = apart_from(bank, joining, ["x", "y", "z"])
    assert "bank.further names y, whose perturbations are all of the bank" in caplog.text
    assert torch.equal(first, other[None])
    assert torch.equal(second, more[None])
    with pytest.raises(UapError, match=r"bank\.further has 1 of the 1 test perturbations"):
        apart_from(bank, [other[None], torch.stack([other, tested])], ["x", "y"])


def test_a_training_does_not_see_what_it_is_tested_on():
    """The whole command, with a bank whose test perturbation was imported for training too."""
    for name in ("other", "own"):
        write_bank(Path(name), part="train", network="tiny", seed=4 if name == "own" else 5)
        write_bank(Path(name), part="train" if name == "other" else "test", network="tiny", seed=5)
    words = [word for word in QUICK_TRAIN if not word.startswith("bank.")]
    words += ["bank.path=own", "bank.train=1", "bank.test=1", "bank.extended=1"]
    with pytest.raises(UapError, match=r"bank\.further has 1 of the 1 test perturbations"):
        train(composed("train", *words, "bank.further=[other]"))


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
        (["bank.rescaled=-1"], "bank.rescaled is -1"),
        (["bank.procedural=-1"], "bank.procedural is -1"),
        (["rectifier.training.strengths=[2,1]"], "strengths is"),
        (["rectifier.training.strengths=[1]"], "strengths is"),
        (["rectifier.training.strengths=[0,1]"], "strengths is"),
        (["rectifier.training.loss.matching=-1"], "matching -1"),
        (["rectifier.training.loss.features=-1"], "features -1"),
        (["rectifier.training.loss.matching_from=0.05"], "matching_from is 0.05"),
        (["rectifier.training.loss.matching_from=1"], "matching_from is 1"),
        (
            ["rectifier.training.loss.matching_from=0.5"],
            "and matching 0.0: expected one",
        ),
        (
            [
                "rectifier.training.loss.matching_from=0.5",
                "rectifier.training.loss.matching=1",
                "rectifier.training.loss.reconstruction=0",
            ],
            "reconstruction 0.0, features 0.0 and matching 1.0: expected one of the first three",
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
            "matched_networks names 1 and matching and features are 0",
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
