"""What the tests share: the tiny network, images by formula, composed configs, real commands."""

import math

import pytest
import torch

from tests.tiny import SETTINGS, TINY, typed_config
from uap_lightning.attacks.fooling import clean_predictions
from uap_lightning.attacks.recipe import Recipe
from uap_lightning.attacks.universal import Universal
from uap_lightning.data.crops import TensorImages
from uap_lightning.data.generated import generated_image
from uap_lightning.detectors import DctSvm
from uap_lightning.guard.defense_folder import save_defense
from uap_lightning.jobs.stages import load_data_and_network, predicted
from uap_lightning.networks.tiny import CLASSES, tiny
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import Bounds
from uap_lightning.rectifiers import ResidualPRN


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors on shared cores: more threads only wait for one another."""
    torch.set_num_threads(1)
    yield
    # A Trainer built outside of a job leaves its determinism behind.
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    """Every test works in a folder of its own, without W&B's account."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
    monkeypatch.delenv("UAP_CACHE_DIR", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def network():
    return tiny()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(5)
    return TensorImages(
        torch.stack([generated_image(k % CLASSES, 32, generator) for k in range(40)])
    )


@pytest.fixture
def labels(network, images):
    return clean_predictions(network, images)


@pytest.fixture
def linf():
    return Ball(float("inf"), 10.0)


@pytest.fixture
def defense(tmp_path, images):
    """A defence folder for the tiny network; its detector fires on half of ``images``."""
    generator = torch.Generator().manual_seed(1)
    rectifier, detector = ResidualPRN(8, 2), DctSvm(32)
    for parameter in rectifier.parameters():
        parameter.data.normal_(0, 0.15, generator=generator)
    detector.weight.normal_(0, 0.03, generator=generator)
    x = images.take(range(len(images))).float()
    with torch.no_grad():
        detector.bias.sub_(detector(x - rectifier(x)).quantile(0.5))
    condition = {
        "train_network": "tiny",
        "train_norm": "linf",
        "eps": 10.0,
        "classes": CLASSES,
        "size": 32,
        "resize": 40,
        "data": "generated",
        "rectifier": "prn_residual",
        "detector": "dct_svm",
    }
    save_defense(tmp_path / "defense", rectifier, detector, SETTINGS, condition)
    return tmp_path / "defense"


@pytest.fixture
def recipe():
    """What makes a bank of random signs for the tiny network; ``attack.made`` has its seeds."""
    cfg = typed_config("craft", *TINY, "attack.steps=40")
    data, network = load_data_and_network(cfg)
    made = []

    def attack(network, images, labels, norm, seed):
        made.append(seed)
        rho = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(seed))
        return Universal(rho.sign() * norm.eps, 1.0, {"drawn": seed})

    attack.made = made
    return Recipe(
        network=network,
        norm=Ball(math.inf, 10.0),
        attack=attack,
        settings={"name": "signs"},
        bounds=Bounds(0.0, 0.15, 3),
        craft=predicted(network, data.craft, data.cache_dir),
        unseen=predicted(network, data.unseen, data.cache_dir),
        photographs=tuple(data.crafted_on),
        seed=0,
    )
