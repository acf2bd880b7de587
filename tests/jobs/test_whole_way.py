"""Jobs from images to results: the whole way, with both norms, and crafting alone."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.jobs.run_results import results
from tests.tiny import QUICK_TRAIN, TINY, composed
from uap_lightning.core.errors import UapError
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.evaluate import evaluate
from uap_lightning.jobs.train import train
from uap_lightning.results.file import read_results


def test_the_whole_way_writes_what_the_contract_says(caplog):
    rate = train(composed("train", *QUICK_TRAIN))
    content = results()
    assert asdict(read_results(Path("outputs/run/results.json")))["seconds"] == content["seconds"]
    assert content["status"] == "ok"
    assert content["reason"] is None
    assert [row["protocol"] for row in content["rows"]] == ["a", "b"]
    row = content["rows"][0]
    assert rate == row["defense_rate"]
    assert {
        "train_network",
        "train_norm",
        "test_network",
        "perturbation_network",
        "test_norm",
        "protocol",
        "label_source",
        "n_images",
        "n_perturbed",
        "acc_clean",
        "acc_perturbed",
        "acc_rectified_perturbed",
        "acc_rectified_mixed",
        "acc_undefended_mixed",
        "acc_defended",
        "acc_defended_clean",
        "fooling_ratio",
        "prn_gain",
        "prn_restoration",
        "detection_rate",
        "undefended_rate",
        "defense_rate",
        "ci95",
    } <= set(row)
    assert row["label_source"] == "ground_truth"
    assert set(content["seconds"]) == {"data", "craft", "train", "test"}
    assert set(content["digests"]) == {"bank", "defense"}
    assert Path("outputs/run/panel.png").stat().st_size > 1000
    defense = load_defense("outputs/run/defense")
    assert (defense.size, defense.condition["classes"]) == (32, 8)
    card = Path("outputs/run/defense/README.md").read_text()
    assert f"| Defense rate | {rate:.1f} % [" in card
    assert Path("outputs/run/csv/metrics.csv").is_file()

    # the same command again changes nothing
    before = Path("outputs/run/results.json").read_bytes()
    assert train(composed("train", *QUICK_TRAIN)) == rate
    assert Path("outputs/run/results.json").read_bytes() == before

    # and from nothing it gives the same numbers
    train(composed("train", *QUICK_TRAIN, "overwrite=true"))
    assert results()["rows"] == content["rows"]

    # other settings do not overwrite a finished run
    with pytest.raises(UapError, match=r"norm\.eps was 10\.0 and is 8\.0"):
        train(composed("train", *QUICK_TRAIN, "norm.eps=8"))
    assert results()["rows"] == content["rows"]

    # the defence folder gives the numbers of training again, and other conditions theirs
    same = composed(
        "evaluate",
        *[o for o in QUICK_TRAIN if not o.startswith(("rectifier", "detector"))],
        "defense=outputs/run/defense",
        output=Path("outputs/same"),
    )
    evaluate(same)
    again = json.loads(Path("outputs/same/results.json").read_text())
    assert again["rows"] == content["rows"]
    assert again["digests"] == content["digests"]

    # shown again while the defence is the same, and not once it has been replaced
    record = Path("outputs/run/defense/defense.json")
    with caplog.at_level("INFO"):
        assert evaluate(same) == rate
    assert "same is finished already" in caplog.text
    record.write_text(record.read_text() + "\n")
    with pytest.raises(UapError, match=r"result of another defence .* overwrite=true"):
        evaluate(same)
    same.overwrite = True
    evaluate(same)
    replaced = json.loads(Path("outputs/same/results.json").read_text())
    assert replaced["digests"]["defense"] != again["digests"]["defense"]

    # refused settings leave it alone too, overwrite or not
    for overwrite in ("false", "true"):
        with pytest.raises(UapError, match=r"norm\.eps is 0"):
            train(composed("train", *QUICK_TRAIN, "norm.eps=0", f"overwrite={overwrite}"))
        assert results()["rows"] == content["rows"]

    with pytest.raises(
        UapError, match=r"was trained on \d+ of the 32 test photographs \(such as .*set seed=0"
    ):
        evaluate(
            composed(
                "evaluate",
                *TINY,
                "data.name=renamed",
                "data.source.test_share=0.5",
                "defense=outputs/run/defense",
                output=Path("outputs/seed"),
            )
        )

    with pytest.raises(UapError, match=r"trained on images of side 32 and data\.crop is 24"):
        evaluate(
            composed(
                "evaluate",
                "network=tiny",
                "data=generated",
                "data.crop=24",
                "name=other",
                "defense=outputs/run/defense",
                output=Path("outputs/other"),
            )
        )


def test_l2_walks_the_whole_way_too():
    settings = (
        "norm=l2",
        "norm.eps=3000",
        "protocol=[a]",
        "detector=none",
        "rectifier.training.steps=4",
    )
    train(composed("train", *QUICK_TRAIN, *settings, "detector.max_images=2"))
    row = results()["rows"][0]
    assert row["test_norm"] == "l2"
    # without a detector every image is rectified
    assert row["defense_rate"] == row["prn_restoration"]
    record = next(Path("banks").glob("tiny-l2-*/train-0000.safetensors"))
    from uap_lightning.perturbations.record import load_perturbation

    assert load_perturbation(record)[1].l2 <= 3000 * 32 / 224 * (1 + 1e-5)


def test_crafting_alone_fills_the_bank_that_training_uses():
    settings = [o for o in QUICK_TRAIN if not o.startswith(("rectifier", "detector", "callbacks"))]
    craft(composed("craft", *settings, output=Path("outputs/craft")))
    files = {p: p.stat().st_mtime_ns for p in Path("banks").rglob("*.safetensors")}
    assert len(files) == 3
    craft(composed("craft", *settings, output=Path("outputs/craft")))
    train(composed("train", *QUICK_TRAIN, "rectifier.training.steps=2"))
    assert files == {p: p.stat().st_mtime_ns for p in Path("banks").rglob("*.safetensors")}
