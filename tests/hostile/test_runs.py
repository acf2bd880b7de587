"""Runs that go wrong by circumstance: other environments, refusals beside results, sweeps."""

import json

import pytest

from tests.hostile.keys import BASE, words

NUMBERS = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "RANK", "LOCAL_RANK", "NODE_RANK")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["3", "-1", "abc", "", "0.5"])
def test_a_number_of_a_process_in_the_environment(name, value, hostile, material, tmp_path):
    """A result is written, or the exit status says that none was."""
    done = hostile("train", *words("train", material), env={name: value}, expect="either")
    if done.verdict == "ok":
        result = json.loads((tmp_path / "outputs" / "run" / "results.json").read_text())
        assert result["status"] == "ok"
        assert result["rows"]


@pytest.mark.parametrize("command", ["craft", "train"])
def test_a_job_script_that_numbers_its_task(command, hostile, material, tmp_path):
    base = words("craft", material) if command == "craft" else words("train", material)
    env = {"SLURM_PROCID": "3", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "bash"}
    hostile(command, *base, env=env, expect="ok")
    assert list(tmp_path.glob("outputs/**/results.json"))


@pytest.mark.parametrize("device", ["gpu", "cuda", "tpu", "mps", "nope", "''", "7"])
@pytest.mark.parametrize("command", ["craft", "train", "evaluate", "predict"])
def test_a_device_that_is_not_there(command, device, hostile, material):
    hostile(command, *words(command, material), f"accelerator={device}", says=["accelerator"])


@pytest.mark.always
@pytest.mark.parametrize(
    "word",
    [
        *("trainer.devices=0", "trainer.devices=-3", "trainer.devices=foo"),
        *(
            "rectifier.training.optimizer.lr=abc",
            "rectifier.training.optimizer.lr=0",
            "rectifier.training.optimizer.lr=-1",
        ),
        *(
            "rectifier.training.optimizer.lr=nan",
            "rectifier.model.width=0",
            "rectifier.model.blocks=-1",
        ),
        *("seed=1000000000000000000000000000000", "seed=-1", "data.resize=0", "name=''"),
        *("network._target_=os.getcwd", "rectifier.training.optimizer._target_=os.system"),
    ],
)
def test_what_a_reader_tries_first(word, hostile, material):
    hostile(
        "train", *words("train", material, word), says=[word.partition("=")[0].rpartition(".")[2]]
    )


@pytest.mark.parametrize(
    "word",
    [
        *("trainer.devices=0", "trainer.devices=-3", "trainer.devices=foo", "trainer.devices=[9]"),
        *("trainer.strategy=nope", "trainer.strategy=fsdp", "trainer.precision=7"),
        *("trainer.max_epochs=0", "+trainer.accumulate_grad_batches=0", "+trainer.profiler=nope"),
        *("+trainer.accumulate_grad_batches=3", "+trainer.limit_test_batches=1"),
        *("+trainer.limit_train_batches=0", "+trainer.fast_dev_run=true", "+trainer.max_time=abc"),
        *("+trainer.num_nodes=3", "+trainer.val_check_interval=abc", "+trainer.plugins=nope"),
        *(
            "rectifier.training.optimizer.lr=abc",
            "rectifier.training.optimizer.lr=0",
            "rectifier.training.optimizer.lr=-1",
        ),
        *(
            "rectifier.training.optimizer.lr=nan",
            "rectifier.training.optimizer.lr=1e30",
            "rectifier.model.width=0",
        ),
        *(
            "rectifier.training.optimizer.betas=[2,3]",
            "rectifier.training.optimizer.weight_decay=-1",
        ),
        *(
            "rectifier.model.width=-8",
            "rectifier.model.width=10000000",
            "rectifier.model.blocks=-1",
        ),
        *(
            "rectifier.training.optimizer._target_=os.system",
            "rectifier.training.optimizer._target_=nope.nope",
        ),
        *("rectifier.model._target_=os.system", "rectifier.model._target_=torch.nn.Linear"),
        *("network._target_=os.getcwd", "data._target_=dict", "attack._target_=print"),
        *("detector.model._target_=str", "callbacks.metrics._target_=list"),
        *("data.batch_size=10000000000000000000000000000", "seed=1000000000000000000000000000000"),
        *("seed=-1", "seed=4294967296", "callbacks=[]", "callbacks=[metrics]", "protocol=[]"),
        *("logger=[]", "logger=[csv,csv]", "ckpt_path=nope.ckpt", "ckpt_path=/dev/zero"),
        *("ckpt_path=/", "bank.path=/nope", "bank.path=/", "bank.path=''", "data.crop=33"),
        *("data.crop=41", "data.source.count=0", "data.source.count=1", "data.source.test_share=1"),
        *("data.source.test_share=0", "data.craft_share=0", "data.resize=0", "norm.eps=0"),
        *("norm.eps=-1", "norm.p=1", "norm.p=0", "norm.p=nan", "norm.reference_size=0"),
        *("bank.train=0", "bank.test=0", "bank.extended=1", "bank.max_cosine=2", "name=''"),
        *("name=..", "name=../../../escape", "name=/", "name=.", "name='a/b'", "name=null"),
        *("hydra.run.dir=/proc/x", "hydra.run.dir=''", "hydra.sweep.dir=/proc/x"),
        *("rectifier.training.scheduler._target_=nope", "rectifier.training.scheduler.max_lr=abc"),
    ],
)
def test_a_setting_of_training_that_cannot_be(word, hostile, material):
    hostile("train", *words("train", material, word), expect="either")


@pytest.mark.parametrize("command", ["craft", "train"])
def test_the_paper_s_first_command_without_data(command, hostile):
    said = hostile(command, "network=googlenet", "norm=linf").said
    assert "ImageNet" in said
    assert "IMAGENET_DIR" in said


@pytest.mark.parametrize(
    "network", ["caffenet", "vggf", "googlenet_bvlc", "squeezenet_caffe", "torchvision", "timm"]
)
@pytest.mark.parametrize("command", ["craft", "predict", "export", "evaluate"])
def test_a_network_whose_weights_are_not_given(network, command, hostile, material):
    base = [w for w in words(command, material) if not w.startswith(("network=", "data="))]
    data = [] if command in ("predict", "export") else ["data=photos"]
    done = hostile(command, *base, f"network={network}", *data)
    assert "not found" not in done.said or "cache_dir" not in done.said, done.said


@pytest.mark.parametrize("network", ["googlenet", "resnet50", "alexnet", "vgg16"])
def test_weights_that_cannot_be_fetched(network, hostile, material):
    base = [w for w in words("export", material) if not w.startswith("network=")]
    hostile("export", *base, f"network={network}")


@pytest.mark.parametrize("weights", ["/nope", "/dev/zero", "/", "pickle.pt", "text.pt", "fifo.pt"])
@pytest.mark.parametrize("network", ["googlenet", "caffenet", "timm", "efficientnet_lite0"])
def test_weights_that_are_none(network, weights, hostile, material, tmp_path):
    import os
    import pickle

    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": print}))
    (tmp_path / "text.pt").write_text("no weights")
    os.mkfifo(tmp_path / "fifo.pt")
    base = [w for w in words("export", material) if not w.startswith("network=")]
    model = ["network.model=resnet18"] if network == "timm" else []
    hostile("export", *base, f"network={network}", *model, f"network.weights={weights}")


SWEEPS = [
    *(
        "rectifier.training.steps=2,3",
        "rectifier.training.optimizer.lr=0.001,0.002",
        "rectifier.model.width=8,16",
    ),
    *("detector.max_images=30,40", "bank.extended=4,5", "norm.eps=9,10", "seed=0,1"),
    *("rectifier=median,gaussian", "rectifier.training.vary=true,false"),
]


@pytest.mark.parametrize("swept", SWEEPS)
def test_a_sweep_gives_every_cell_its_own_folder(swept, hostile, material, tmp_path):
    base = [w for w in words("train", material) if not w.startswith("name=")]
    if swept.startswith("rectifier="):
        base = [w for w in base if not w.startswith("rectifier.")]
    hostile("train", "-m", *base, "protocol=[a]", "callbacks.panel.rows=1", swept, expect="ok")
    results = [json.loads(p.read_text()) for p in tmp_path.glob("outputs/**/results.json")]
    assert [result["status"] for result in results] == ["ok", "ok"]
    before = {p: p.read_bytes() for p in tmp_path.glob("outputs/**/results.json")}
    hostile("train", "-m", *base, "protocol=[a]", "callbacks.panel.rows=1", swept, expect="ok")
    assert {p: p.read_bytes() for p in tmp_path.glob("outputs/**/results.json")} == before


@pytest.mark.parametrize(
    "swept", ["norm.eps=0,-1", "rectifier.training.steps=abc,2", "seed=-1,0", "name=a,''"]
)
def test_a_sweep_with_cells_that_cannot_be(swept, hostile, material):
    command = "train" if swept.startswith("rectifier") else "craft"
    given = [w for w in words(command, material, swept) if w != "name=run"]
    hostile(command, "-m", *given)


@pytest.mark.parametrize(
    "refused",
    [
        "norm.eps=12",
        "norm.eps=0",
        "rectifier.training.steps=3",
        "seed=7",
        "bank.train=3",
        "nokey=1",
    ],
)
def test_a_refused_command_leaves_another_run_as_it_is(refused, hostile, material, tmp_path):
    hostile("train", *words("train", material), expect="ok")
    folder = tmp_path / "outputs" / "run"
    logs = ("train.log", ".lock")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in logs}
    hostile("train", *words("train", material, refused))
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in logs}
    assert after == before


@pytest.mark.parametrize("command", BASE)
def test_two_at_once_on_one_output(command, hostile, material, tmp_path):
    """Both end well, or one is told; what is there is whole."""
    given = words(command, material)
    first = hostile.start(command, *given, cwd=tmp_path)
    second = hostile.start(command, *given, cwd=tmp_path)
    for started in (first, second):
        started.before = {tmp_path / "x": 0}  # the other's files may be half done meanwhile
    outcomes = [hostile.wait(first), hostile.wait(second)]
    for outcome in outcomes:
        hostile.judged(outcome, "either")
    assert any(outcome.verdict == "ok" for outcome in outcomes)
