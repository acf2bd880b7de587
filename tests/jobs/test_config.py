"""Every option of every group composes, resolves, and fits its target."""

from pathlib import Path

import pytest
from hydra.errors import HydraException

from tests.tiny import composed, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.config import find_conf, typed
from uap_lightning.jobs.schema import EvaluateConfig, ReportConfig, TrainConfig

CONF = Path(find_conf())
GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir())
OPTIONS = sorted(
    (str(path.parent.relative_to(CONF)), path.stem)
    for path in CONF.rglob("*.yaml")
    if path.parent != CONF and path.parent.name != "shared"
)
NEEDED = {
    ("network", "timm"): ["network.model=resnet18"],
    ("network", "torchvision"): ["network.model=resnet18"],
    ("data", "folder"): ["data.root=images"],
    ("data", "imagenet_sample"): ["data.root=images"],
    ("experiment", "sample"): ["data.root=images"],
    ("experiment", "general"): ["data.root=images"],
    ("attack", "adaptive"): ["attack.defense=folder"],
}
LISTS = {"protocol", "logger", "callbacks"}


def test_the_groups_are_those_of_the_design():
    assert set(GROUPS) >= {
        "network",
        "norm",
        "protocol",
        "data",
        "attack",
        "rectifier",
        "detector",
        "trainer",
        "logger",
        "callbacks",
        "experiment",
        "paths",
    }
    assert len(OPTIONS) > 35


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=["-".join(pair) for pair in OPTIONS])
def test_every_option_composes_resolves_and_binds(group, option):
    needed = NEEDED.get((group, option), [])
    if (group, option) == ("trainer", "test"):
        typed_config("evaluate", "defense=folder")
        return
    chosen = f"{group}=[{option}]" if group in LISTS else f"{group}={option}"
    typed_config("train", chosen, *needed)


@pytest.mark.parametrize("job", ["craft", "train", "evaluate", "report", "export", "predict"])
def test_every_command_composes(job):
    overrides = ["defense=folder"] if job in ("evaluate", "export", "predict") else []
    if job in ("export", "predict"):
        overrides += ["network=tiny", "output=file"]
    if job == "predict":
        overrides += ["images=folder"]
    if job == "report":
        from hydra import compose, initialize_config_dir

        with initialize_config_dir(str(CONF), version_base="1.3"):
            typed(compose(job), ReportConfig)
        return
    typed_config(job, *overrides)


def test_the_data_brings_what_suits_its_size_and_the_command_line_wins():
    paper = composed("train")
    assert (paper.attack.name, paper.rectifier.name) == ("deepfool_uap", "prn")
    assert (paper.bank.train, paper.bank.test, paper.bank.extended) == (20, 5, 250)
    small = composed("train", "data=photos")
    assert (small.attack.name, small.rectifier.name) == ("cosine_uap", "prn_residual")
    chosen = composed("train", "data=photos", "rectifier=prn", "attack=deepfool_uap", "bank=paper")
    assert (chosen.attack.name, chosen.rectifier.name) == ("deepfool_uap", "prn")
    assert chosen.bank.train == 20
    preset = composed("train", "experiment=quickstart", "rectifier=prn_authors")
    assert (preset.network.name, preset.data.name) == ("efficientnet_lite0", "photos")
    assert preset.rectifier.name == "prn_authors"


def test_lists_of_protocols_and_loggers():
    cfg = composed("train", "protocol=[b]", "logger=[csv,wandb]", "logger.wandb.offline=true")
    assert list(cfg.protocol) == ["b"]
    assert list(cfg.logger) == ["csv", "wandb"]
    typed(cfg, TrainConfig)


@pytest.mark.parametrize(
    "override",
    ["norm.epz=3", "norm.eps=abc", "network.modle=x", "rectifier.model.widht=3", "bank.trian=2"],
)
def test_a_misspelt_key_or_a_wrong_type_does_not_compose(override):
    with pytest.raises(HydraException):
        composed("train", override)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["norm.eps=0"], r"norm\.eps is 0"),
        (["norm.eps=-3"], r"norm\.eps is -3"),
        (["norm=l2", "norm.reference_size=0"], r"norm\.reference_size is 0: expected the side"),
        (["attack.overshoot=inf"], r"attack\.overshoot is inf: expected a finite number"),
        (["attack.overshoot=nan"], r"attack\.overshoot is nan: expected a finite number"),
        (["norm.p=3"], r"norm\.p is 3"),
        (["norm.p=1"], r"norm\.p is 1"),
        (["bank.train=0"], r"bank\.train is 0"),
        (["bank.extended=3"], r"bank\.extended is 3"),
        (["bank.min_fooling_ratio=80"], r"bank\.min_fooling_ratio is 80"),
        (["bank.max_cosine=-1"], r"bank\.max_cosine is -1"),
        (["protocol.a.perturbed_share=1"], "perturbed_share is 1"),
        (["protocol=[]"], "protocol is empty|protocol has no usable value"),
        (["network=timm"], "network.model"),
        (["+attack.stepz=3"], "attack does not fit"),
        (["+trainer.max_epoch=3"], "trainer does not fit its _target_ pytorch_lightning.Trainer"),
        (["rectifier.model._target_=uap_lightning.Nothing"], "which cannot be imported"),
        (["name='${nothing}'"], "nothing"),
        (["seed=-1"], "seed is -1"),
        (["rectifier.training.batch_size=0"], r"rectifier\.training\.batch_size is 0"),
        (
            ["rectifier.training.epochs=-1"],
            r"rectifier\.training\.epochs is -1 and rectifier\.training\.steps is -1",
        ),
        (
            ["rectifier.training.steps=7"],
            r"rectifier\.training\.epochs is 5 and rectifier\.training\.steps is 7",
        ),
        (["rectifier.training.precision=half"], r"rectifier\.training\.precision is half"),
        (["rectifier.training.optimizer.lr=-1"], r"rectifier\.training\.optimizer\.lr is -1"),
        (["rectifier.training.perturbed_share=2"], r"rectifier\.training\.perturbed_share is 2"),
        (
            ["rectifier=prn_printed", "rectifier.training.loss.cross_entropy=0"],
            r"rectifier\.training\.loss has",
        ),
        (
            ["rectifier.training.recolour=1.5"],
            r"rectifier\.training\.recolour is 1\.5: expected a number between 0 and 1",
        ),
        (
            ["rectifier=prn_printed", "rectifier.training.recolour=0.5"],
            r"recolour is 0\.5 and loss\.cross_entropy 1\.0: expected one of them to be 0",
        ),
        (["rectifier.training.loss.reconstruction=-1"], r"rectifier\.training\.loss has"),
        (["detector.max_images=1"], r"detector\.max_images is 1"),
        (["detector.perturbed_share=0"], r"detector\.perturbed_share is 0"),
        (["detector.harmless=1"], r"detector\.harmless is 1.0: expected a share"),
        (
            ["attack=cosine_uap", "attack.stop_at=0.5", "bank.min_fooling_ratio=0.8"],
            r"attack\.stop_at is 0\.5 and bank\.min_fooling_ratio 0\.8",
        ),
        (["accelerator=tpu"], "accelerator is tpu"),
        (["+trainer.accumulate_grad_batches=2"], r"trainer\.accumulate_grad_batches is 2"),
        (["+trainer.limit_test_batches=1"], r"trainer\.limit_test_batches is 1"),
        (["name="], "name is empty"),
        (["+nokey=1"], "nokey is no key of this command"),
        (["+norm.other=1"], r"norm\.other"),
        (["+trainer.precision=16"], r"trainer\.precision is 16"),
        (["trainer.deterministic=abc"], r"trainer\.deterministic is 'abc'"),
        (["trainer.log_every_n_steps=abc"], r"trainer\.log_every_n_steps is 'abc'"),
        (["callbacks.panel=abc"], r"callbacks\.panel is abc: expected an option"),
        (["callbacks.checkpoint.save_top_k=abc"], r"save_top_k is 'abc'"),
        (["logger.csv=abc"], r"logger\.csv is abc: expected an option"),
        (["data.source=abc"], r"data\.source is 'abc': expected an object"),
        (["data.train_crops=100000000000000000000000"], r"data\.train_crops is 1.*at most"),
        ([f"paths.cache_dir={'x' * 300}"], r"paths\.cache_dir is xxx.* of 300 bytes"),
        (["name='a\x1b[31mb'"], "without control characters"),
        (
            ["rectifier=prn_printed", "rectifier.training.scheduler.gamma=abc"],
            r"scheduler\.gamma is 'abc'",
        ),
        (["rectifier.training.loss.cross_entropy=nan"], r"rectifier\.training\.loss has"),
        (["rectifier.training.optimizer.lr=abc"], r"optimizer\.lr is 'abc'"),
        (["rectifier.training.batch_size=100000000000000000000000"], "expected at most"),
        (["seed=1000000000000000000000000000000"], "seed is 1"),
        (["attack.max_passes=many"], r"attack\.max_passes is 'many': expected a valid integer"),
        (["attack.overshoot=x"], r"attack\.overshoot is 'x': expected a valid number"),
        (["data.upscale=7"], r"data\.upscale is 7: expected a valid boolean"),
    ],
)
def test_check_refuses_before_any_work(overrides, said):
    with pytest.raises(UapError, match=said):
        typed_config("train", *overrides)


@pytest.mark.parametrize("option", ["timm", "torchvision"])
def test_the_network_that_perturbs_has_a_name_of_its_own(option):
    cfg = composed(
        "evaluate",
        "network=tiny",
        "data=generated",
        "defense=outputs/run/defense",
        f"network@perturbation_network={option}",
        "perturbation_network.model=resnet18",
    )
    typed(cfg, EvaluateConfig)
    assert (cfg.network.name, cfg.perturbation_network.name) == ("tiny", "resnet18")
    assert cfg.name == "run-on-tiny-perturbed-by-resnet18-cosine_uap-linf-generated-seed0"


def test_an_evaluation_is_named_by_the_perturbations_that_it_tests():
    fixed = ("network=tiny", "data=generated", "defense=outputs/run/defense")
    names = [
        composed("evaluate", *fixed, *more).name
        for more in ([], ["attack=data_free"], ["bank.path=banks/lts4"])
    ]
    families = ("cosine_uap", "data_free", "lts4")
    assert names == [f"run-on-tiny-{family}-linf-generated-seed0" for family in families]


@pytest.mark.parametrize("rectifier", ["prn", "jpeg", "prn_residual"])
def test_every_kind_of_rectifier_goes_with_the_sample(rectifier):
    typed_config("train", "experiment=sample", "data.root=images", f"rectifier={rectifier}")


def test_data_of_a_users_own_need_one_file(tmp_path):
    """``data=mydata`` composes from a folder of the user's alone, and takes the small rectifier."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mydata.yaml").write_text(
        "# @package _global_\n"
        "defaults: [shared/crops, /attack: cosine_uap, /bank: small, _self_]\n"
        "data:\n  name: mydata\n  crop: 48\n"
        "  source: {_target_: uap_lightning.data.folder.image_folder, _partial_: true,"
        " root: here, test_share: 0.2, seed: 1}\n"
    )
    searched = f"hydra.searchpath=[file://{tmp_path}]"
    cfg = typed_config("train", searched, "data=mydata", "network=tiny")
    assert (cfg.data["name"], cfg.data["crop"], cfg.data["resize"]) == ("mydata", 48, 256)
    assert cfg.rectifier.name == "prn_residual"
    assert typed_config("craft", searched, "data=mydata", "network=tiny").data["crop"] == 48


def test_every_attack_goes_with_the_sample_and_every_network_takes_a_mean():
    sample = ("experiment=sample", "data.root=images")
    assert typed_config("train", *sample).attack["steps"] == 100
    assert typed_config("train", *sample, "attack=deepfool_uap").attack["name"] == "deepfool_uap"
    cfg = typed_config("train", "network=googlenet", "network.mean=[1,2,3]", "network.std=[4,5,6]")
    assert (cfg.network["model"], cfg.network["mean"]) == ("googlenet", [1, 2, 3])
