"""The frame around a job, and the sentences that entry points end in."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from tests.tiny import QUICK_TRAIN, TINY, composed, typed_config
from uap_lightning import craft as craft_entry
from uap_lightning import evaluate as evaluate_entry
from uap_lightning import report as report_entry
from uap_lightning import train as train_entry
from uap_lightning.core.device import pick_device, pick_precision
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import locked
from uap_lightning.core.version import git_commit, library_versions
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.evaluate import evaluate
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.run import running
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.jobs.stages import check_labels, load_data_and_network
from uap_lightning.jobs.train import find_checkpoint, train
from uap_lightning.results.file import read_results


def results():
    return json.loads(Path("outputs/run/results.json").read_text())


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


def test_a_failed_job_says_why_and_leaves_the_process_as_it_was():
    cfg = composed("train", *QUICK_TRAIN)
    environment = dict(os.environ)
    filters = list(warnings.filters)

    def job():
        with running(cfg, TrainConfig) as run:
            os.environ["LEAK"] = "1"
            torch.use_deterministic_algorithms(True)
            with run.stage("data"):
                pass
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        job()
    assert dict(os.environ) == environment
    assert not torch.are_deterministic_algorithms_enabled()
    assert warnings.filters == filters
    assert (results()["status"], results()["reason"]) == ("failed", "boom")
    assert list(results()["seconds"]) == ["data"]
    # a job that was refused says so as well
    refused = composed("train", *QUICK_TRAIN, "norm.eps=0", output=Path("outputs/refused"))
    with pytest.raises(UapError, match=r"norm\.eps is 0"), running(refused, TrainConfig):
        pass
    said = read_results(Path("outputs/refused/results.json"))
    assert said.status == "failed"
    assert "norm.eps is 0" in said.why
    # a failed run is taken up again
    with running(cfg, TrainConfig) as run:
        assert not run.finished
    assert results()["status"] == "ok"
    with running(cfg, TrainConfig) as run:
        assert run.finished


def test_a_result_does_not_depend_on_how_wandb_ends(monkeypatch, caplog):
    def finish(exit_code):
        assert results()["status"] == "ok"
        raise OSError("no connection")

    class Wandb:
        run = "a run"

    torn = []
    Wandb.finish, Wandb.teardown = staticmethod(finish), lambda: torn.append(True)
    monkeypatch.setitem(sys.modules, "wandb", Wandb)
    with running(composed("train", *QUICK_TRAIN), TrainConfig):
        pass
    assert results()["status"] == "ok"
    assert "could not finish its run (no connection)" in caplog.text
    assert torn


def test_one_process_a_folder():
    cfg = composed("train", *QUICK_TRAIN)
    with (
        locked(Path("outputs/run/.lock"), wait=False),
        pytest.raises(UapError, match="another process is at work"),
        running(cfg, TrainConfig),
    ):
        pass


def test_labels_of_another_network_are_refused():
    data, network = load_data_and_network(typed_config("craft", *TINY))
    check_labels(data, network)
    network.classes = lambda size: 3
    with pytest.raises(UapError, match="have class 7 and the network tiny has 3 classes"):
        check_labels(data, network)


@pytest.mark.parametrize(
    ("condition", "said"), [({"seed": 1}, "trained with seed 1"), ({}, "is not a checkpoint")]
)
def test_a_checkpoint_of_another_condition_is_refused(condition, said):
    cfg = composed("train", *QUICK_TRAIN, "ckpt_path=x.ckpt")
    content = {"hyper_parameters": {"train_network": "tiny", **condition}} if condition else {}
    torch.save(content, "x.ckpt")
    with running(cfg, TrainConfig) as run, pytest.raises(UapError, match=said):
        find_checkpoint(run.config, run.folder, {"train_network": "tiny", "seed": 0})


def said_by(entry, monkeypatch, capsys, *overrides):
    """What an entry point prints for these overrides, in this process."""
    monkeypatch.setattr(sys, "argv", ["uap", *overrides])
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["norm=linff"], "norm=linff does not exist: choose one of l2, linf; did you mean"),
        (["norm=-3"], "norm=-3 does not exist: choose one of l2, linf."),
        (
            ["logger=[csv]", "network@perturbation_network=7"],
            "perturbation_network=7 does not exist",
        ),
        (["-m", "network=3,tiny"], "a group of settings is given a number: expected the name"),
        (["netwrk=tiny"], "netwrk"),
        (["network=tiny", "norm.epz=3"], "norm.epz"),
        (["network=tiny", "norm.eps=0"], "norm.eps is 0"),
        (["network=tiny", "norm.p=1"], "norm.p is 1"),
        ([], "data.root is not set: set data.root=FOLDER"),
        (["data.root=missing"], "data.root is missing, which is not a folder"),
        (["network=tiny", "data=generated", "bank.path=no"], "bank.json cannot be read"),
        (["network=tiny", "data=generated", "accelerator=tpu"], "accelerator is tpu"),
        (["seed="], "seed"),
        (
            ["network=tiny", "data=generated", "rectifier=jpeg", "rectifier.training.steps=9"],
            "a key is set below one that is null",
        ),
        (["network=tiny", "data=folder"], "data.root"),
        (["network=tiny", "data=generated", "ckpt_path=no.ckpt"], "no.ckpt is not a checkpoint"),
    ],
)
def test_bad_input_ends_in_one_sentence(monkeypatch, capsys, overrides, said):
    message = said_by(train_entry, monkeypatch, capsys, *overrides)
    lines = [line for line in message.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in message


def test_the_imagenet_sentence_names_the_quickstart(monkeypatch, capsys):
    message = said_by(train_entry, monkeypatch, capsys, "network=googlenet", "norm=linf")
    assert "experiment=quickstart" in message


def test_other_commands_end_in_one_sentence_too(monkeypatch, capsys):
    assert "holds no results.json" in said_by(report_entry, monkeypatch, capsys, "results=none")
    assert "defense" in said_by(evaluate_entry, monkeypatch, capsys, "network=tiny")
    said = said_by(evaluate_entry, monkeypatch, capsys, "defense=none", "network=tiny")
    assert "none/defense.json cannot be read" in said
    assert "attack" in said_by(craft_entry, monkeypatch, capsys, "attack=no")


def test_no_write_permission_is_told(monkeypatch, capsys):
    Path("file").write_text("")
    said = said_by(
        craft_entry, monkeypatch, capsys, "network=tiny", "data=generated", "paths.bank_dir=file/b"
    )
    assert "cannot be created" in said


def reads_what_is_not_there(cfg):
    Path("none.txt").read_text()


def test_only_what_comes_before_a_job_is_told_as_a_folder_that_cannot_be_written(
    monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["uap"])
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        launch(reads_what_is_not_there, "report")
    assert "cannot be written" not in capsys.readouterr().err
    Path("file").write_text("")
    said = said_by(report_entry, monkeypatch, capsys, "hydra.run.dir=file/runs")
    assert "cannot be written" in said
    assert "set hydra.run.dir" in said


def test_devices_and_precisions():
    cpu = torch.device("cpu")
    assert pick_device("cpu") == cpu
    assert pick_device("auto").type in ("cpu", "cuda")
    assert pick_precision("32-true", cpu) == "32-true"
    assert pick_precision("auto", cpu) in ("32-true", "bf16-mixed")
    if not torch.cuda.is_available():
        with pytest.raises(UapError, match="no GPU is visible"):
            pick_device("gpu")


def test_results_carry_versions_and_the_commit():
    versions = library_versions()
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    root = Path(train_entry.__file__).parent.parent
    asked = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    assert git_commit() == (asked.stdout.strip() or None)
