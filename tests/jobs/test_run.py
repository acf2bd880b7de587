"""The frame around a job: its failures, its lock, its checkpoint, its device, its versions."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from tests.jobs.run_results import results
from tests.tiny import QUICK_TRAIN, TINY, composed, typed_config
from uap_lightning import train as train_entry
from uap_lightning.core.device import pick_device, pick_precision
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import locked
from uap_lightning.core.version import git_commit, library_versions
from uap_lightning.jobs.run import running
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.jobs.stages import check_labels, load_data_and_network
from uap_lightning.jobs.train import find_checkpoint
from uap_lightning.results.file import read_results


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
