"""A rectifier that learns from another one: its aim, and that the teacher stays as it is."""

import copy
from functools import partial

import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from uap_lightning.detectors import DctSvm
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.training.module import RectifierModule


def module_of(network, rectifier, teacher, **weights):
    optimizer = partial(torch.optim.Adam, lr=1e-3)
    parts = (network, rectifier, DctSvm(32), {"train_network": "tiny"})
    return RectifierModule(*parts, teacher=teacher, optimizer=optimizer, **weights)


class Shift(torch.nn.Module):
    def forward(self, x):
        return x + 5


class Whiten(torch.nn.Module):
    """A teacher with batch norm, which would count what it sees if it were trained."""

    def __init__(self):
        super().__init__()
        self.normal = torch.nn.BatchNorm2d(3)

    def forward(self, x):
        return 100 + 10 * self.normal(x / 100)


def test_with_a_teacher_the_aim_lies_halfway_for_all_but_the_cross_entropy(
    network, images, monkeypatch
):
    clean = images.take(range(6)).float()
    given, prediction = (clean + 3).clamp(0, 255), torch.tensor([0, 1, 2, 3, 4, 5])
    teacher = Whiten().eval().requires_grad_(False)
    batch = {"image": clean, "input": given, "prediction": prediction}
    halfway = (clean + teacher(given)) / 2
    weights = {"cross_entropy": 2.0, "reconstruction": 0.5, "matching": 3.0}
    taught = module_of(network, Shift(), teacher, **weights)
    alone = module_of(network, Shift(), None, **weights)
    for module in (taught, alone):
        monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    rectified = given + 5
    error = (rectified - halfway).double() / 10
    expected = 0.5 * float((error.square() + 0.01).sqrt().mean())
    aim, answer = network(halfway).softmax(1).double(), network(rectified).softmax(1).double()
    expected += 3.0 * float((aim * (aim.log() - answer.log())).sum(1).mean())
    expected -= 2.0 * float(answer.log()[torch.arange(6), prediction].mean())
    assert float(taught.training_step(batch, 0)) == pytest.approx(expected, rel=1e-3)
    assert float(alone.training_step(batch, 0)) != pytest.approx(expected, rel=1e-2)


def test_a_teacher_stays_as_it_is_and_out_of_the_checkpoint(network, images, tmp_path):
    teacher = Whiten().eval().requires_grad_(False)
    before = copy.deepcopy(teacher.state_dict())
    module = module_of(network, ResidualPRN(8, 2), teacher, reconstruction=1.0)
    clean = images.take(range(6)).float()
    batch = {"image": clean, "input": clean + 3, "prediction": torch.zeros(6, dtype=torch.long)}
    trainer = Trainer(
        max_steps=3, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, DataLoader([batch] * 3, batch_size=None))
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    trainer.save_checkpoint(tmp_path / "kept.ckpt")
    kept = torch.load(tmp_path / "kept.ckpt", weights_only=True)["state_dict"]
    assert kept
    assert not [key for key in kept if key.startswith("teacher")]
