"""Training: the loss of equation 2, the schedule, the checkpoint, the frozen network."""

import copy
import math
from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from pytorch_lightning import Trainer
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

from tests.tiny import QUICK_TRAIN, composed, convolutional, photographs, typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.detectors import DctSvm
from uap_lightning.jobs.building import build_module, build_parts, load_matched
from uap_lightning.jobs.perturbing import read_further, sampler_of
from uap_lightning.jobs.stages import build_trainer, count_steps, find_bank, load_data_and_network
from uap_lightning.jobs.train import (
    detector_sample,
    fit,
    training_condition,
)
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.training.callbacks import FitDetector
from uap_lightning.training.module import RectifierModule, read_condition


def module_of(
    network,
    rectifier=None,
    cross_entropy=1.0,
    reconstruction=0.0,
    matching=0.0,
    scheduler=None,
):
    return RectifierModule(
        network,
        rectifier or ResidualPRN(8, 2),
        DctSvm(32),
        cross_entropy=cross_entropy,
        reconstruction=reconstruction,
        matching=matching,
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        scheduler=scheduler,
        condition={"train_network": "tiny", "train_norm": "linf"},
    )


class Shift(torch.nn.Module):
    def forward(self, x):
        return x + 5


def test_the_loss_is_equation_2_plus_reconstruction(network, images, monkeypatch):
    clean = images.take(range(6)).float()
    batch = {
        "image": clean,
        "input": clean + 3,
        "prediction": torch.tensor([0, 1, 2, 3, 4, 5]),
    }
    module = module_of(network, Shift(), cross_entropy=2.0, reconstruction=0.5)
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    logits = network(clean + 8).double()
    expected = 0.0
    for row, label in zip(logits, batch["prediction"], strict=True):
        expected += 2.0 * (math.log(sum(math.exp(v) for v in row)) - float(row[label])) / 6
    expected += 0.5 * math.sqrt((8 / 10) ** 2 + 0.01)
    assert float(module.training_step(batch, 0)) == pytest.approx(expected, rel=1e-4)


def test_matching_is_the_divergence_from_the_answer_on_the_clean_image(network, images):
    clean = images.take(range(4)).float()
    generator = torch.Generator().manual_seed(0)
    other = (clean + 60 * torch.randn(clean.shape, generator=generator)).clamp(0, 255)
    module = module_of(network, cross_entropy=0.0, matching=3.0)
    given, aim = (network(x).double().softmax(1) for x in (other, clean))
    expected = sum(
        float(p) * math.log(float(p) / float(q))
        for row, found in zip(aim, given, strict=True)
        for p, q in zip(row, found, strict=True)
    )
    assert expected > 1e-3
    label = torch.zeros(4, dtype=torch.long)
    assert float(module.loss(other, clean, label)) == pytest.approx(3 * expected / 4, rel=1e-3)
    assert float(module.loss(clean, clean, label)) == pytest.approx(0, abs=1e-6)
    # With equation 2 beside it the losses add up, and the network sees each image once.
    seen = []
    hook = network.register_forward_hook(lambda _, inputs, answer: seen.append(inputs[0]))
    both = module_of(network, cross_entropy=1.0, matching=3.0).loss(other, clean, label)
    hook.remove()
    assert len(seen) == 2
    plain = module_of(network, cross_entropy=1.0).loss(other, clean, label)
    assert float(both - plain) == pytest.approx(3 * expected / 4, rel=1e-3)


def test_answers_are_matched_from_their_step_on_and_of_each_network_in_turn(
    tmp_path, monkeypatch, network
):
    """Six steps: reconstruction alone in the first three, then target, other and target."""
    other = convolutional(classes=4)
    module = RectifierModule(
        network,
        ResidualPRN(8, 2),
        DctSvm(32),
        {"train_network": "tiny"},
        reconstruction=1.0,
        matching=1.0,
        matching_from=0.5,
        matched=[other],
        optimizer=partial(torch.optim.SGD, lr=1e-9),
    )
    called = []
    for one in (network, other):
        one.register_forward_hook(lambda net, *_: called.append((module.global_step, net.name)))
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    clean = photographs(32, 4).take(range(4)).float()
    batch = {"image": clean, "input": clean + 3, "prediction": torch.zeros(4, dtype=torch.long)}
    trainer = Trainer(
        max_steps=6, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, DataLoader([batch] * 6, batch_size=None))
    names = ["tiny", "convolutional"]
    expected = [(step, names[step % 2]) for step in (3, 4, 5) for _ in range(2)]
    assert called == expected
    # Outside of a training step, as in validation, all of them count.
    far = (clean + 60 * torch.randn(clean.shape)).clamp(0, 255)
    whole = module.loss(far, clean, batch["prediction"])
    plain, apart = module.loss(far, clean, batch["prediction"], []), 0.0
    for one in (network, other):
        answers = [one(x).double().softmax(1) for x in (clean, far)]
        apart += float((answers[0] * (answers[0] / answers[1]).log()).sum(1).mean())
    assert float(whole - plain) == pytest.approx(apart / 2, rel=1e-3)
    checkpoint = {"state_dict": dict(module.state_dict())}
    module.on_save_checkpoint(checkpoint)
    assert not any(key.startswith(("network", "answering")) for key in checkpoint["state_dict"])
    assert all(parameter.grad is None for parameter in other.parameters())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_steps_use_the_compiled_rectifier_and_nothing_else_does(
    tmp_path, monkeypatch, precision
):
    """A compiler that counts calls stands in for PyTorch's, which takes a minute."""
    called = []

    def count(forward):
        def run(x):
            called.append((tuple(x.shape), torch.is_autocast_enabled("cpu")))
            return forward(x)

        return run

    monkeypatch.setattr(torch, "compile", count)
    words = ["rectifier.training.steps=4", f"rectifier.training.precision={precision}"]
    torch.manual_seed(0)
    given = trained(tmp_path, *words, "rectifier.training.compile=true")
    cfg, data, _, bank, module = given
    fitted(cfg, data, bank, module)
    size = cfg.rectifier.training.batch_size
    assert called == [((size, 3, 32, 32), precision == "bf16-mixed")] * 5  # one of them the trial
    torch.manual_seed(0)
    plain = trained(tmp_path, *words)
    fitted(plain[0], plain[1], plain[3], plain[4])
    assert len(called) == 5
    for ours, theirs in zip(
        module.rectifier.parameters(), plain[4].rectifier.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_rectifier_that_cannot_be_compiled_is_said_in_one_sentence(network, monkeypatch):
    def broken(forward):
        def run(x):
            raise RuntimeError("no C++ compiler\n\nsecond line")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UapError, match=r"compile is true .*\(RuntimeError: no C\+\+ compiler\):"):
        module_of(network).compile_rectifier(torch.zeros(2, 3, 32, 32))


def test_a_network_whose_answers_are_matched_is_loaded_before_the_work(tmp_path):
    node = "{_target_: uap_lightning.networks.efficientnet_lite.efficientnet_lite, variant: 9}"
    words = ["rectifier.training.loss.matching=1"]
    words.append(f"rectifier.training.loss.matched_networks=[{node}]")
    cfg = typed_config("train", *QUICK_TRAIN, *words, output=tmp_path / "out")
    with pytest.raises(UapError, match=r"loss\.matched_networks\[0\]: "):
        load_matched(cfg, 32)
    assert load_matched(typed_config("train", *QUICK_TRAIN, output=tmp_path / "out"), 32) == []


def test_trying_a_rectifier_leaves_its_statistics_alone(tmp_path, network):
    words = [word for word in QUICK_TRAIN if "rectifier" not in word]
    words += ["rectifier=unet", "rectifier.model.width=2", "detector=none"]
    cfg = typed_config("train", *words, output=tmp_path / "out")
    rectifier, _ = build_parts(cfg, 16)
    fresh = [buffer for name, buffer in rectifier.named_buffers() if name.endswith("tracked")]
    assert fresh
    assert rectifier.training
    module = module_of(network, rectifier)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "compile", lambda forward: forward)
        module.compile_rectifier(torch.full((2, 3, 32, 32), 127.0))
    assert not any(int(count) for count in fresh)
    assert all(parameter.grad is None for parameter in rectifier.parameters())


def trained(tmp_path, *overrides):
    cfg = typed_config("train", *QUICK_TRAIN, *overrides, output=tmp_path / "out")
    data, network = load_data_and_network(cfg)
    bank = find_bank(cfg, data, network)
    condition = training_condition(cfg, data, network, bank, read_further(cfg, data)[0])
    return cfg, data, network, bank, build_module(cfg, network, build_parts(cfg, 32), condition)


def fitted(cfg, data, bank, module):
    training = cfg.rectifier.training
    callbacks = [FitDetector(detector_sample(cfg, data))]
    trainer = build_trainer(cfg, callbacks=callbacks, training=training, crops=len(data.train))
    sampler = sampler_of(cfg, bank, read_further(cfg, data)[0])
    fit(cfg, training, trainer, module, data, sampler, None)


def test_training_leaves_the_network_bit_equal_and_lowers_the_loss(tmp_path):
    cfg, data, network, bank, module = trained(tmp_path, "rectifier.training.steps=60")
    before = copy.deepcopy(network.state_dict())
    losses = []
    original = module.training_step

    def recorded(batch, batch_idx):
        loss = original(batch, batch_idx)
        losses.append(float(loss.detach()))
        return loss

    module.training_step = recorded
    fitted(cfg, data, bank, module)
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_checkpoint_holds_ours_alone_and_loads_safely(tmp_path):
    cfg, data, _, bank, module = trained(
        tmp_path, "callbacks.checkpoint.train_time_interval.seconds=0"
    )
    fitted(cfg, data, bank, module)
    path = tmp_path / "out" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    assert content["state_dict"]
    assert all(key.startswith(("rectifier.", "detector.")) for key in content["state_dict"])
    condition = read_condition(str(path))
    assert condition["train_network"] == "tiny"
    assert condition["bank"] == bank.digest
    assert all(isinstance(v, str | int | float) for v in condition.values())


def test_a_checkpoint_of_another_rectifier_is_refused(network):
    module = module_of(network)
    checkpoint = {"state_dict": dict(module.state_dict())}
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
    other = module_of(network, ResidualPRN(16, 2))
    with pytest.raises(UapError, match="does not fit this rectifier"):
        other.on_load_checkpoint(checkpoint)
    checkpoint["state_dict"].pop("rectifier.head.weight")
    with pytest.raises(UapError, match=r"rectifier\.head\.weight differs"):
        module.on_load_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [b"text", None, {"state_dict": {}}])
def test_a_file_that_is_no_checkpoint_of_ours_is_refused(tmp_path, content):
    path = tmp_path / "x.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UapError, match="is not a checkpoint of uap_lightning"):
        read_condition(str(path))


@pytest.mark.parametrize(
    ("settings", "steps"), [([], 12), (["steps=-1", "epochs=5", "batch_size=64"], 10)]
)
def test_epochs_are_counted_in_steps(settings, steps):
    words = [f"rectifier.training.{setting}" for setting in settings]
    cfg = typed_config("train", *QUICK_TRAIN, *words)
    # 48 training images with two crops each: 96 crops are two batches of 64
    assert count_steps(cfg.rectifier.training, 96) == steps


@pytest.mark.parametrize(
    ("option", "rates"),
    [
        # "decay it by 10% after each 1K iterations", from 0.01
        ("prn_printed", {0: 0.01, 999: 0.01, 1000: 0.009, 2000: 0.0081}),
        # the authors' code: a tenth after each 1,000, from 0.001
        ("prn_authors", {0: 0.001, 1000: 0.0001, 2000: 0.00001}),
    ],
)
def test_the_presets_keep_the_papers_and_the_authors_schedule(option, rates):
    cfg = composed("train", "network=tiny", "data=generated", f"rectifier={option}")
    optimizer = instantiate(cfg.rectifier.training.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    schedule = instantiate(cfg.rectifier.training.scheduler)(optimizer)
    for step in range(max(rates) + 1):
        if step in rates:
            assert optimizer.param_groups[0]["lr"] == pytest.approx(rates[step])
        optimizer.step()
        schedule.step()


def test_the_optimizer_sees_the_rectifier_only_and_the_schedule_steps(network):
    module = module_of(network, scheduler=partial(StepLR, step_size=1, gamma=0.5))
    configured = module.configure_optimizers()
    optimized = {id(p) for g in configured["optimizer"].param_groups for p in g["params"]}
    assert optimized == {id(p) for p in module.rectifier.parameters()}
    assert configured["lr_scheduler"]["interval"] == "step"
    assert isinstance(module_of(network).configure_optimizers(), torch.optim.Adam)
    module.optimizer = None
    assert module.configure_optimizers() is None


def test_a_schedule_that_asks_for_total_steps_gets_them(network):
    schedule = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, cycle_momentum=False)
    module = module_of(network, scheduler=schedule)
    module.trainer = Trainer(max_steps=37, logger=False, barebones=True)
    assert module.configure_optimizers()["lr_scheduler"]["scheduler"].total_steps == 37
