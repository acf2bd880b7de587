"""Filling a bank: records, bounds, going on, sharing the work."""

import dataclasses
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from uap_lightning.attacks.filling import fill_bank, take_folder
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import Bounds, open_bank
from uap_lightning.perturbations.record import load_perturbation, save_perturbation


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


def test_unseen_fooling_is_measured_on_unseen_images(tmp_path, recipe):
    # in a ball that is large enough for random signs to fool some
    recipe = dataclasses.replace(recipe, norm=Ball(math.inf, 60.0))
    bank = fill_bank(tmp_path, recipe, 3, 1)

    def share(rho, crops):
        changed = 0
        for i in range(len(crops)):
            image = crops.take([i]).float()
            clean = int(recipe.network(image).argmax())
            changed += int(recipe.network((image + rho).clamp(0, 255)).argmax()) != clean
        return changed / len(crops)

    for rho, record in zip([*bank.train, *bank.test], bank.records, strict=True):
        assert record.fooling_ratio_unseen == pytest.approx(share(rho, recipe.unseen))
    seen = [record.fooling_ratio for record in bank.records]
    assert seen != [record.fooling_ratio_unseen for record in bank.records]


def test_the_bank_knows_the_photographs_crafted_on(tmp_path, recipe):
    bank = fill_bank(tmp_path, dataclasses.replace(recipe, photographs=("b", "a")), 1, 1)
    assert bank.photographs == ("a", "b")
    assert open_bank(bank.folder, recipe.network, recipe.norm, 32).photographs == ("a", "b")
    # whatever their order
    again = fill_bank(tmp_path, dataclasses.replace(recipe, photographs=("a", "b")), 1, 1)
    assert again.identity == bank.identity


def test_odd_candidates_are_named(tmp_path, recipe):
    whole = fill_bank(tmp_path / "whole", recipe, 1, 1)
    path = whole.folder / "train-0000.safetensors"
    candidate = whole.folder / ".candidates" / path.name
    rho, record = load_perturbation(path)

    def said(expected):
        path.unlink(missing_ok=True)
        with pytest.raises(UapError, match=r"\.candidates/train-0000\.safetensors.*" + expected):
            fill_bank(tmp_path / "whole", recipe, 1, 1)

    candidate.write_bytes(path.read_bytes()[:200])
    said("is not a readable safetensors file")
    for change, expected in (
        ({"seed": record.seed + 1}, "was crafted by another recipe"),
        ({"attempt": 1}, "was crafted by another recipe"),
        ({"attack": {"name": "stripes"}}, "was crafted by another recipe"),
        ({"network": "vgg16"}, "was made with network vgg16: expected tiny"),
        ({"weights": "0a"}, "was made with weights 0a"),
        ({"eps": 8.0}, r"was made with eps 8\.0: expected 10\.0"),
    ):
        save_perturbation(candidate, rho, dataclasses.replace(record, **change))
        said(expected)
    save_perturbation(candidate, rho * 2, record)
    said("norm 20: expected 32 x 32 and at most 10")
    save_perturbation(candidate, rho[:, :16, :16], record)
    said("has 16 x 16 pixels")
    save_perturbation(candidate, rho, record)
    assert fill_bank(tmp_path / "whole", recipe, 1, 1).digest == whole.digest


def test_a_candidate_with_a_setting_left_to_the_seed_is_let_in(tmp_path, recipe):
    drawn = dataclasses.replace(recipe, settings={"name": "signs", "drawn": None})
    assert "drawn" in fill_bank(tmp_path, drawn, 1, 1).records[0].attack


def test_a_broken_note_of_rejections_is_named(tmp_path, recipe):
    strict = dataclasses.replace(recipe, bounds=Bounds(1.0, 0.15, 1))
    with pytest.raises(UapError, match="in 1 attempts"):
        fill_bank(tmp_path, strict, 1, 1)
    (note,) = tmp_path.glob("*/.candidates/train-0000.json")
    for content in ("{}", '{"reasons": 3}', '{"reasons": [1]}', "[" * 100_000):
        note.write_text(content)
        with pytest.raises(UapError, match=r"train-0000\.json is not"):
            fill_bank(tmp_path, strict, 1, 1)


def test_a_network_with_a_long_name_is_told(tmp_path, recipe):
    recipe.network.name = "n" * 300
    with pytest.raises(UapError, match="cannot be created"):
        fill_bank(tmp_path, recipe, 1, 1)
