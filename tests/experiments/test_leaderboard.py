"""A place on the leaderboard, from a module of a file to the line of the page."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from experiments import leaderboard
from experiments.defenses import Cost, Entry
from experiments.leaderboard import parsed
from experiments.leaderboard_tables import (
    Attack,
    Place,
    leaderboard_table,
    provenance_table,
    summary_table,
)
from experiments.stream_setting import Setting, answers
from experiments.unseen_attacks import Cell
from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import TensorImages
from uap_lightning.detectors import NoDetector
from uap_lightning.networks.tiny import tiny
from uap_lightning.perturbations.ball import Ball
from uap_lightning.streams.whitening import Whitener

MINE = """
import torch

class Blur(torch.nn.Module):
    def forward(self, images):
        return torch.nn.functional.avg_pool2d(images, 3, 1, 1)

class Rounded(torch.nn.Module):
    def forward(self, images):
        return images.round()

class Never(torch.nn.Module):
    def forward(self, removed):
        return removed.flatten(1).mean(1) * 0 - 1

def build(): return Blur()
def rounded(): return Rounded()
def both(): return Blur(), Never()
def wrong(): return 3
"""
NUMBERS = (80.0, (78.0, 82.0), 82.0, 98.0, 97.0, 1.5, 0.99, 96.0, 98.0, 9)
ONE = Cell("mine", "a", "inf", 1.0, None, 90.0, *NUMBERS)
PLACE = Place(
    schema=1,
    status="ok",
    name="mine",
    trained_on="nothing",
    network="tiny",
    size=64,
    norm="linf",
    seed=0,
    command="python -m x",
    version="0",
    cost=Cost("mine", None, 2.62),
    times=1.5,
    tested_on="all",
    unseen=[ONE, replace(ONE, pattern="b", rate=70.0, floor=60.0), replace(ONE, norm="2")],
    own=[],
    adaptive=replace(ONE, pattern="adaptive", rate=50.0, floor=40.0),
    attack=Attack("evade", "cosine", 15, 90, 512),
)


def options(*words):
    return parsed(["--patterns", "banks", "--trained-on", "nothing", *words])[0]


@pytest.fixture
def setting():
    images = scenes(60, seed=2)
    whitener = Whitener(64).fit(scenes(120, seed=1))
    label = answers(tiny(), images.float())
    return Setting(tiny(), whitener, images, label, {}, TensorImages(scenes(40, seed=3)))


def test_an_entry_is_a_module_of_a_file_a_folder_or_a_registered_name(defense):
    Path("mine.py").write_text(MINE)
    images = torch.rand(2, 3, 32, 32) * 255
    found = leaderboard.entry_of(options("--module", "mine.py:build", "--name", "a blur"), 32)
    assert found.name == "a blur"
    expected = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    assert torch.equal(found.rectifier(images), expected)
    assert (found.detector(images) > 0).all()
    both = leaderboard.entry_of(options("--module", "mine.py:both"), 32)
    assert not (both.detector(images) > 0).any()
    assert leaderboard.entry_of(options("--defense", str(defense)), 32).digest
    assert leaderboard.entry_of(options("--rectifier", "median"), 32).name == "median"
    for words, said in (
        (["--module", "mine.py:wrong"], "returns int: expected a torch.nn.Module"),
        (["--module", "mine.py:nothing"], "expected FILE.py:FUNCTION"),
        (["--module", "elsewhere.py:build"], "expected FILE.py:FUNCTION"),
        ([], "give one of"),
        (["--rectifier", "median", "--module", "mine.py:build"], "give one of"),
    ):
        with pytest.raises(UapError, match=said):
            leaderboard.entry_of(options(*words), 32)


def test_the_attacker_who_knows_is_judged_on_the_test_and_fools(setting):
    Path("mine.py").write_text(MINE)
    entry = leaderboard.entry_of(options("--module", "mine.py:both"), 64)
    cell, how = leaderboard.attack(setting, entry, Ball(math.inf, 10.0), 0, 1, 40)
    # The detector never fires, so the network stands alone: the floor, and it is fooled.
    assert cell.rate == cell.floor < 80
    assert (cell.pattern, cell.n_photographs) == ("adaptive", 60)
    assert (how.restarts, how.steps, how.photographs) == (1, 40, 40)


def test_a_way_without_gradient_is_left_out_and_without_any_it_is_not_called_robust(
    setting, caplog
):
    Path("mine.py").write_text(MINE)
    entry = leaderboard.entry_of(options("--module", "mine.py:rounded"), 64)
    ball = Ball(math.inf, 10.0)
    # evade goes through the network alone; rectified through what rounds.
    _, how = leaderboard.attack(setting, entry, ball, 0, 2, 10)
    assert how.way == "evade"
    assert "rectified" in caplog.text
    steps = torch.nn.Sequential(setting.network.model, Step())
    setting.network.model = steps
    assert leaderboard.attack(setting, entry, ball, 0, 1, 10) is None


class Step(torch.nn.Module):
    def forward(self, logits):
        return logits.sign()


def test_the_table_has_mean_lowest_and_floor_and_says_where_there_is_nothing():
    Path("places").mkdir()
    Path("places/a.json").write_text(json.dumps(asdict(PLACE)))
    silent = replace(PLACE, name="silent", adaptive=None, attack=None, unseen=[ONE], own=[ONE])
    Path("places/b.json").write_text(json.dumps(asdict(silent)))
    lines = leaderboard_table(Path("places")).splitlines()
    columns = [cell.strip() for cell in lines[0].strip("|").split("|")]
    # The better mean comes first.
    first, second = ([cell.strip() for cell in x.strip("|").split("|")] for x in lines[2:])
    assert (first[1], second[1]) == ("silent", "mine")
    told = dict(zip(columns, second, strict=True))
    assert told["own kind"] == ""
    assert told["unseen ℓ∞, ξ = 10"] == "80.0 (70.0 [78.0, 82.0]); floor 70.0"
    assert told["unseen ℓ2, ξ = 2,000"] == "90.0 [78.0, 82.0]; floor 80.0"
    assert told["unseen ℓ∞, ξ = 25"] == ""
    assert told["crafted against it"] == "ℓ∞: 50.0 [78.0, 82.0]; floor 40.0"
    assert (told["false alarms"], told["time"], told["GMAC"]) == ("1.5 %", "1.50", "2.62")
    assert dict(zip(columns, first, strict=True))["crafted against it"] == "ℓ∞: no gradient"
    assert "evade, cosine, of 15 with 90 steps" in provenance_table(Path("places"))


def test_the_summary_tells_the_floors_once_for_each_classifier_and_the_attacker_who_knows():
    Path("places").mkdir()
    silent = replace(PLACE, name="silent", adaptive=None, attack=None, own=[ONE])
    filtered = replace(PLACE, trained_on="not trained")
    worse = replace(filtered, name="a worse filter", unseen=[replace(ONE, rate=60.0)])
    places = {"a": filtered, "b": silent, "c": replace(filtered, size=224), "d": worse}
    for name, place in places.items():
        Path(f"places/{name}.json").write_text(json.dumps(asdict(place)))
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in summary_table(Path("places")).splitlines()
    ]
    named = [(line[0], line[1]) for line in lines[2:]]
    small, large = "tiny, 64 px", "tiny, 224 px"
    assert named[0] == (small, "no defence")
    assert named[1:] == [(small, "mine"), (small, "silent"), (large, "no defence"), (large, "mine")]
    floor, mine, other = (dict(zip(lines[0], line, strict=True)) for line in lines[2:5])
    # Floors of 80 and 60 beside rates of 90 and 70.
    assert floor["ℓ∞, ξ = 10"] == "70.0 (60.0)"
    assert (floor["ℓ2, ξ = 2,000"], floor["ℓ∞, ξ = 25"]) == ("80.0 (80.0)", "")
    assert mine["ℓ∞, ξ = 10"] == "80.0 (70.0 [78.0, 82.0])"
    assert mine["ℓ2, ξ = 2,000"] == "90.0 [78.0, 82.0]"
    assert mine["crafted against it"] == "50.0 [78.0, 82.0]; floor 40.0"
    assert (other["crafted against it"], mine["own kind"]) == ("no gradient", "")
    assert other["own kind"] == "90.0 [78.0, 82.0]; floor 80.0"
    assert (mine["clean kept"], mine["false alarms"], mine["GMAC"]) == ("98.0", "1.5 %", "2.6")


def test_places_that_were_not_tested_on_the_same_do_not_stand_together():
    Path("places").mkdir()
    Path("places/a.json").write_text(json.dumps(asdict(PLACE)))
    Path("places/b.json").write_text(json.dumps(asdict(replace(PLACE, tested_on="others"))))
    with pytest.raises(UapError, match="tested on other photographs"):
        leaderboard_table(Path("places"))
    Path("places/b.json").write_text(json.dumps(asdict(replace(PLACE, tested_on="x", size=96))))
    assert len(leaderboard_table(Path("places")).splitlines()) == 4


def test_what_it_was_tested_on_are_photographs_perturbations_and_strengths(setting):
    rho = 10 * torch.ones(3, 64, 64)
    one = replace(setting, patterns={"a": (rho, "inf")})
    known = leaderboard.tested_on(one, [1.0])
    order = torch.randperm(60)
    assert leaderboard.tested_on(replace(one, images=one.images[order]), [1.0]) == known
    called = replace(one, patterns={"b": (rho, "inf")})
    assert leaderboard.tested_on(called, [1.0]) == known  # whatever its bank is called
    assert leaderboard.tested_on(one, [1.0, 2.5]) != known
    assert leaderboard.tested_on(replace(one, images=one.images[1:]), [1.0]) != known
    other = {"a": (rho * torch.linspace(0, 1, 64), "inf")}
    assert leaderboard.tested_on(replace(setting, patterns=other), [1.0]) != known


class Statistics(torch.nn.Module):
    def forward(self, images):
        return images - images.mean(0, keepdim=True)


class Chance(torch.nn.Module):
    def forward(self, images):
        return images + 9 * torch.rand_like(images)


class Smaller(torch.nn.Module):
    def forward(self, images):
        return images[..., 1:]


class Broken(torch.nn.Module):
    def forward(self, images):
        return images / 0


def test_what_sees_more_than_one_image_or_throws_coins_is_no_defence_of_this_table():
    images = scenes(6, seed=1).float()
    leaderboard.check_function(Entry("fine", torch.nn.Identity(), NoDetector()), images)
    for module, said in (
        (Statistics(), "function of a single image"),
        (Chance(), "function of a single image"),
        (Smaller(), "images of the same size"),
        (Broken(), "not finite"),
    ):
        with pytest.raises(UapError, match=said):
            leaderboard.check_function(Entry("it", module, NoDetector()), images)


def test_each_defence_and_attacker_has_a_folder_of_its_own():
    named = [
        leaderboard.folder_of(options(*words), overrides)
        for words, overrides in (
            (("--rectifier", "jpeg"), ["norm=linf"]),
            (("--rectifier", "jpeg"), ["norm=l2"]),
            (("--rectifier", "jpeg", "--name", "JPEG, 75"), []),
            (("--module", "mine.py:build"), []),
        )
    ]
    assert len(set(named)) == 4
    assert named[2].endswith("/jpeg-75-linf")


@pytest.mark.parametrize(
    "key", ["tested_on", "seed", "command", "version", "trained_on", "cost", "adaptive"]
)
def test_a_place_without_its_provenance_is_refused(key):
    content = asdict(PLACE)
    del content[key]
    Path("places").mkdir()
    Path("places/a.json").write_text(json.dumps(content))
    with pytest.raises(UapError, match=key):
        leaderboard_table(Path("places"))


@pytest.mark.parametrize("key", ["floor", "ci95"])
def test_a_cell_without_floor_or_interval_is_refused(key):
    content = asdict(PLACE)
    del content["unseen"][1][key]
    Path("places").mkdir()
    Path("places/a.json").write_text(json.dumps(content))
    with pytest.raises(UapError, match=key):
        leaderboard_table(Path("places"))
