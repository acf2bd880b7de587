"""Each training of the ablation adds one kind of perturbation to the one before, and no more."""

from pathlib import Path

import pytest

from experiments import general_ablation as ablation
from experiments.runs import Plan
from tests.tiny import typed_config
from uap_lightning.core.errors import UapError

WORDS = ("experiment=general", "data=generated", "bank.path=B", "norm=linf", "data.crop=32")
KINDS = ("own", "procedural", "crafted", "published", "one strength")


def plan():
    return Plan({"tiny": ("network=tiny",)}, WORDS, ("rectifier=prn_general_light",), Path("out"))


def test_each_variant_adds_one_thing_to_the_one_before():
    named = ablation.variants([Path("c/1"), Path("c/2")], [Path("p/1")])
    assert tuple(named) == KINDS
    jobs = ablation.jobs_of(plan(), named)
    assert len({job.folder for job in jobs}) == len(jobs)
    found = [typed_config("train", *job.overrides) for job in jobs]
    assert [cfg.rectifier.name for cfg in found] == list(KINDS)
    crafted = ["c/1", "c/2"]
    everything = [*crafted, "p/1"]
    assert [cfg.bank.further for cfg in found] == [[], [], crafted, everything, everything]
    assert [cfg.bank.procedural > 0 for cfg in found] == [False, True, True, True, True]
    assert [cfg.rectifier.training.strengths is None for cfg in found] == [False] * 4 + [True]
    for cfg in found:
        assert cfg.detector.name == "none"
        assert cfg.detector.false_alarms is None
        assert cfg.rectifier.model == found[0].rectifier.model
        assert cfg.rectifier.training.steps == found[0].rectifier.training.steps


def test_the_measurement_has_all_defences_and_no_setting_of_a_training():
    jobs = ablation.jobs_of(plan(), ablation.variants([Path("c")], [Path("p")]))
    words = ablation.measurement(jobs, plan(), ["--patterns", "unseen"])
    named = [words[n + 1] for n, word in enumerate(words) if word == "--defense"]
    assert named == [str(job.folder / "defense") for job in jobs]
    overrides = [word for word in words[2:] if "=" in word]
    assert not any(word.startswith(("bank", "rectifier", "experiment")) for word in overrides)
    # They are settings of craft, which experiments.unseen_attacks takes.
    assert typed_config("craft", *overrides).name == "general_ablation"


def test_banks_are_found_below_a_folder_and_none_is_refused(tmp_path):
    for name in ("b/x/train-0000", "b/x/train-0001", "a/train-0000", "c/test-0000"):
        file = tmp_path / f"{name}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert ablation.banks_below(tmp_path) == [tmp_path / "a", tmp_path / "b" / "x"]
    with pytest.raises(UapError, match=r"holds no train-\*\.safetensors"):
        ablation.banks_below(tmp_path / "c")
