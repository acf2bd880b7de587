"""The bank: records, bounds, going on, and banks that do not fit."""

import copy
import dataclasses
import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tests.tiny import TINY, composed, typed_config
from uap_lightning.attacks.filling import Recipe, fill_bank, take_folder
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of
from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.stages import find_bank, load_data_and_network, predicted
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import Bounds, largest_cosine, open_bank
from uap_lightning.perturbations.record import load_perturbation
from uap_lightning.results.file import read_results


@pytest.fixture
def recipe():
    cfg = typed_config("craft", *TINY, "attack.steps=40")
    data, network = load_data_and_network(cfg)
    made = []

    def attack(network, images, labels, norm, seed):
        made.append(seed)
        rho = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(seed))
        return Universal(rho.sign() * norm.eps, 1.0, {"drawn": seed})

    attack.made = made
    return Recipe(
        network=network,
        norm=Ball(math.inf, 10.0),
        attack=attack,
        settings={"name": "signs"},
        bounds=Bounds(0.0, 0.15, 3),
        craft=predicted(network, data.craft, data.cache_dir),
        unseen=predicted(network, data.unseen, data.cache_dir),
        seed=0,
    )


def test_a_bank_is_filled_once_and_grows(tmp_path, recipe):
    first = fill_bank(tmp_path, recipe, 2, 1)
    assert len(recipe.attack.made) == 3
    assert first.train.shape == (2, 3, 32, 32)
    again = fill_bank(tmp_path, recipe, 2, 1)
    assert len(recipe.attack.made) == 3
    assert again.digest == first.digest
    assert again.identity == first.identity
    more = fill_bank(tmp_path, recipe, 3, 1)
    assert len(recipe.attack.made) == 4
    assert torch.equal(more.train[:2], first.train)
    assert torch.equal(more.test, first.test)


def test_the_record_says_what_was_measured(tmp_path, recipe):
    bank = fill_bank(tmp_path, recipe, 2, 1)
    rho, record = load_perturbation(bank.folder / "train-0001.safetensors")
    assert torch.equal(rho, bank.train[1])
    assert record.attack == {"name": "signs", "drawn": record.seed}
    assert record.linf == 10
    assert record.l2 == pytest.approx(10 * math.sqrt(rho.numel()))
    assert (record.p, record.eps, record.size, record.network) == ("inf", 10.0, 32, "tiny")
    clean = recipe.craft.prediction
    changed = sum(
        int(recipe.network((recipe.craft.take([i]).float() + rho).clamp(0, 255)).argmax())
        != int(clean[i])
        for i in range(len(clean))
    )
    assert record.fooling_ratio == pytest.approx(changed / len(clean))
    cosine = float((rho.flatten() @ bank.train[0].flatten()) / rho.norm() / bank.train[0].norm())
    assert record.cosine == pytest.approx(abs(cosine), abs=1e-5)


def test_a_killed_fill_goes_on_to_the_same_bank(tmp_path, recipe):
    whole = fill_bank(tmp_path / "whole", recipe, 3, 1)
    count = len(recipe.attack.made)

    class Killed(Exception):
        pass

    def dies(*args):
        if len(recipe.attack.made) == count + 2:
            raise Killed
        return recipe.attack(*args)

    with pytest.raises(Killed):
        fill_bank(tmp_path / "killed", dataclasses.replace(recipe, attack=dies), 3, 1)
    resumed = fill_bank(tmp_path / "killed", recipe, 3, 1)
    assert resumed.digest == whole.digest
    assert len(recipe.attack.made) == count + 4


def test_a_bank_that_grows_keeps_the_cosine_bound_over_all_of_it(tmp_path, recipe):
    first = fill_bank(tmp_path, recipe, 1, 1)
    repeats = dataclasses.replace(recipe, attack=lambda *arguments: Universal(first.test[0], 1.0))
    with pytest.raises(UapError, match=r"cosine 1\.000"):
        fill_bank(tmp_path, repeats, 2, 1)


def test_bounds_that_cannot_be_met_are_told(tmp_path, recipe):
    strict = dataclasses.replace(recipe, bounds=Bounds(1.0, 0.15, 2))
    with pytest.raises(UapError, match=r"min_fooling_ratio 1\.0.* in 2 attempts \(fooling ratio"):
        fill_bank(tmp_path, strict, 1, 1)
    assert not list(tmp_path.glob("tiny*/**/*.safetensors"))
    diverse = dataclasses.replace(recipe, bounds=Bounds(0.0, 0.0, 2))
    with pytest.raises(UapError, match=r"\(cosine 0\.\d+; cosine"):
        fill_bank(tmp_path, diverse, 2, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rho: rho * math.nan, "norm nan"),
        (lambda rho: rho * 37, "norm 370: expected float32 .* within 10 in pixel units"),
        (lambda rho: rho[:, :1, :1], r"shape \(3, 1, 1\)"),
        (lambda rho: rho.double(), r"returned torch\.float64"),
    ],
)
def test_what_is_no_perturbation_of_the_ball_is_refused(tmp_path, recipe, change, said):
    def broken(*arguments):
        return Universal(change(recipe.attack(*arguments).rho), 1.0)

    with pytest.raises(UapError, match=f"attack=signs .*{said}"):
        fill_bank(tmp_path, dataclasses.replace(recipe, attack=broken), 1, 1)
    assert not list(tmp_path.glob("tiny*/**/*.safetensors"))


def test_a_rejection_is_noted_once_where_a_process_was_killed_in_between(
    tmp_path, recipe, monkeypatch
):
    def repeats(network, images, labels, norm, seed):
        twin = seed == seeds("train-0001", 0)
        return recipe.attack(
            network, images, labels, norm, seeds("train-0000", 0) if twin else seed
        )

    twice = dataclasses.replace(recipe, attack=repeats)
    whole = fill_bank(tmp_path / "a", twice, 2, 1)
    unlink = Path.unlink

    def killed(path, **options):
        if path.name == "train-0001.safetensors":
            raise KeyboardInterrupt
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            fill_bank(tmp_path / "b", twice, 2, 1)
    resumed = fill_bank(tmp_path / "b", twice, 2, 1)
    assert [record.attempt for record in resumed.records] == [0, 1, 0]
    assert resumed.digest == whole.digest


def test_a_digest_tells_training_from_test_perturbations(tmp_path, recipe):
    bank = fill_bank(tmp_path, recipe, 2, 1)
    moved = dataclasses.replace(
        bank, train=bank.train[:1], test=torch.cat([bank.train[1:], bank.test])
    )
    assert moved.digest != bank.digest


def test_a_second_seed_is_tried(tmp_path, recipe):
    calls = []

    def first_is_weak(network, images, labels, norm, seed):
        calls.append(seed)
        crafted = recipe.attack(network, images, labels, norm, seed)
        return Universal(crafted.rho * (0 if len(calls) == 1 else 1), 1.0)

    bounded = dataclasses.replace(
        recipe, attack=first_is_weak, bounds=Bounds(0.01, 0.15, 2), norm=Ball(math.inf, 60.0)
    )
    bank = fill_bank(tmp_path, bounded, 1, 1)
    assert bank.records[0].attempt == 1
    assert bank.records[0].seed == calls[1]


def seeds(name, attempt):
    return int(digest_of([0, name, attempt])[:8], 16)


def filled_by_two(root, recipe, attack):
    """Two threads fill one bank; the first to begin crafts train-0000 until all others are made."""
    others_made, made = threading.Event(), []

    def crafting(network, images, labels, norm, seed):
        made.append(seed)
        if seed == seeds("train-0000", 0):
            assert others_made.wait(60)
        if seed == seeds("test-0000", 0):
            others_made.set()
        return attack(network, images, labels, norm, seed)

    with ThreadPoolExecutor(2) as pool:
        shared = dataclasses.replace(recipe, attack=crafting)
        filling = [pool.submit(fill_bank, root, shared, 2, 1) for _ in range(2)]
        banks = [job.result(timeout=120) for job in filling]
    assert banks[0].digest == banks[1].digest
    return banks[0], made


def test_two_fillers_share_the_work_and_make_the_bank_of_one(tmp_path, recipe):
    alone = fill_bank(tmp_path / "alone", recipe, 2, 1)
    together, made = filled_by_two(tmp_path / "together", recipe, recipe.attack)
    assert together.digest == alone.digest
    assert sorted(made) == sorted(
        seeds(name, 0) for name in ("train-0000", "train-0001", "test-0000")
    )
    for one, other in zip(together.records, alone.records, strict=True):
        assert dataclasses.replace(one, seconds=0) == dataclasses.replace(other, seconds=0)


def test_a_candidate_made_ahead_meets_the_bound_it_would_have_met_alone(tmp_path, recipe):
    def repeats(network, images, labels, norm, seed):
        # the first try at train-0001 is train-0000 again
        twin = seed == seeds("train-0001", 0)
        seed = seeds("train-0000", 0) if twin else seed
        return recipe.attack(network, images, labels, norm, seed)

    alone = fill_bank(tmp_path / "a", dataclasses.replace(recipe, attack=repeats), 2, 1)
    assert [record.attempt for record in alone.records] == [0, 1, 0]
    together, made = filled_by_two(tmp_path / "b", recipe, repeats)
    assert together.digest == alone.digest
    assert seeds("train-0001", 1) in made
    assert len(made) == 4


def test_rejected_attempts_are_not_made_again(tmp_path, recipe):
    strict = dataclasses.replace(recipe, bounds=Bounds(1.0, 0.15, 2))
    for _ in range(2):
        with pytest.raises(UapError, match="in 2 attempts"):
            fill_bank(tmp_path, strict, 1, 1)
        assert len(recipe.attack.made) == 2
    more = dataclasses.replace(strict, bounds=Bounds(1.0, 0.15, 3))
    with pytest.raises(UapError, match="in 3 attempts"):
        fill_bank(tmp_path, more, 1, 1)
    assert recipe.attack.made[2:] == [seeds("train-0000", 2)]


def test_two_settings_cannot_share_a_folder(tmp_path, recipe):
    folder = fill_bank(tmp_path, recipe, 1, 1).folder
    take_folder(folder, recipe.description())
    other = dataclasses.replace(recipe, norm=Ball(math.inf, 9.0))
    with pytest.raises(UapError, match=r"is a bank with eps 10\.0: expected 9\.0"):
        take_folder(folder, other.description())


def test_a_network_that_says_one_class_of_everything_is_refused(tmp_path, recipe):
    said = recipe.craft.prediction
    recipe.craft.prediction = torch.full_like(said, 3)
    with pytest.raises(UapError, match=f"tiny predicts class 3 for all {len(said)} crafting"):
        fill_bank(tmp_path, recipe, 1, 1)


def test_a_broken_file_is_named(tmp_path, recipe):
    bank = fill_bank(tmp_path, recipe, 1, 1)
    path = bank.folder / "train-0000.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UapError, match=r"train-0000\.safetensors is not a readable"):
        fill_bank(tmp_path, recipe, 1, 1)


def test_a_safetensors_file_that_is_no_perturbation_is_named(tmp_path):
    from uap_lightning.core.storage import write_tensors

    path = tmp_path / "x.safetensors"
    write_tensors(path, {"weight": torch.zeros(2)}, {})
    with pytest.raises(UapError, match="is not a perturbation file"):
        load_perturbation(path)


@pytest.mark.parametrize(
    ("network", "weights", "norm", "size", "said"),
    [
        ("vgg16", None, Ball(math.inf, 10), 32, "whose network is tiny"),
        ("tiny", "0a1b", Ball(math.inf, 10), 32, "whose weights is .*expected 0a1b"),
        ("tiny", None, Ball(2, 10), 32, "whose p is inf"),
        ("tiny", None, Ball(math.inf, 8), 32, r"whose eps is 10\.0"),
        ("tiny", None, Ball(math.inf, 10), 64, "whose size is 32"),
    ],
)
def test_a_bank_of_another_network_norm_or_size_is_refused(
    tmp_path, recipe, network, weights, norm, size, said
):
    bank = fill_bank(tmp_path, recipe, 1, 1)
    opened = open_bank(bank.folder, recipe.network, recipe.norm, 32)
    assert opened.digest == bank.digest
    other = copy.copy(recipe.network)
    other.name, other.digest = network, weights or other.digest
    with pytest.raises(UapError, match=said):
        open_bank(bank.folder, other, norm, size)


def test_a_bank_that_is_not_there_or_not_full_is_told(tmp_path, recipe):
    with pytest.raises(UapError, match=r"bank\.json cannot be read"):
        open_bank(tmp_path, recipe.network, recipe.norm, 32)
    bank = fill_bank(tmp_path, recipe, 1, 1)
    (bank.folder / "test-0000.safetensors").unlink()
    with pytest.raises(UapError, match="1 training and 0 test"):
        open_bank(bank.folder, recipe.network, recipe.norm, 32)


def test_the_config_makes_or_names_the_bank():
    cfg = typed_config("craft", *TINY, "bank.train=1", "bank.test=1")
    data, network = load_data_and_network(cfg)
    bank = find_bank(cfg, data, network)
    for record in bank.records:
        assert record.fooling_ratio >= 0.8
        assert record.cosine <= 0.15
        assert record.fooling_ratio_unseen is not None
    named = typed_config("craft", *TINY, f"bank.path='{bank.folder}'")
    assert find_bank(named, data, network).digest == bank.digest


def test_a_finished_command_sees_that_its_bank_is_gone(caplog):
    cfg = composed("craft", *TINY, "bank.train=1", "bank.test=1")
    craft(cfg)
    digest = read_results(Path("outputs/run/results.json"))["digests"]["bank"]
    shutil.rmtree("banks")
    craft(cfg)
    assert len(list(Path("banks").glob("*/*.safetensors"))) == 2
    assert read_results(Path("outputs/run/results.json"))["digests"]["bank"] == digest
    with caplog.at_level("INFO"):
        craft(cfg)
    assert "The bank is complete" in caplog.text


def test_the_cosine_is_the_largest_absolute_one():
    a = torch.zeros(3, 2, 2)
    a[0, 0, 0] = 1
    b = torch.ones(3, 2, 2)
    assert largest_cosine(a, []) == 0
    assert largest_cosine(a, [b, -a]) == pytest.approx(1)
    assert largest_cosine(a, [-b]) == pytest.approx(1 / math.sqrt(12))
