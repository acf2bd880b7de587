"""The trained defences that are part of the package."""

import json
import math
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from uap_lightning import Guard, pretrained
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.core.errors import UapError
from uap_lightning.data.crops import TensorImages
from uap_lightning.data.decoding import content_of
from uap_lightning.data.packaged import packaged_photographs
from uap_lightning.guard.defense_folder import CARD, TRAINED_ON, load_defense
from uap_lightning.networks.efficientnet_lite import efficientnet_lite
from uap_lightning.perturbations.ball import Ball

NAMES = pretrained.names()


def test_the_command_tells_where_each_of_them_lies():
    assert NAMES
    done = subprocess.run(
        [sys.executable, "-m", "uap_lightning.pretrained"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told = dict(line.split("  defense=") for line in done.stdout.splitlines())
    assert told == {name: str(pretrained.folder(name)) for name in NAMES}


def test_another_name_is_refused_and_all_names_are_told():
    with pytest.raises(UapError, match=rf"no trained defence 'vgg16'.*{NAMES[0]}"):
        pretrained.folder("vgg16")
    # Nothing outside the package is taken for one.
    with pytest.raises(UapError, match="no trained defence"):
        pretrained.folder("..")


@pytest.mark.parametrize("name", NAMES)
def test_each_is_whole_small_and_named_after_what_it_is(name):
    folder = pretrained.folder(name)
    defense = load_defense(folder)
    condition = defense.condition
    kind = {"prn_general_medium": "", "prn_general_fast": "-fast"}[str(condition["rectifier"])]
    assert name == f"{condition['train_network']}-{defense.size}-{condition['train_norm']}{kind}"
    assert (folder / CARD).is_file()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8 * 2**20
    trained_on = json.loads((folder / TRAINED_ON).read_text())
    # What no test may use: 2,700 photographs, three perturbations of its own kind and many others.
    assert len(set(trained_on["photographs"])) == 2700
    assert len(set(trained_on["perturbations"])) > 60
    assert defense.trained_on.isdisjoint(
        content_of(p.path.read_bytes()) for p in packaged_photographs().test
    )


@pytest.mark.parametrize("name", NAMES)
def test_it_leaves_photographs_alone_and_protects_from_what_it_has_not_seen(name):
    """A perturbation that is crafted here, on photographs of which none is tested on."""
    network = efficientnet_lite(0)
    guard = Guard.load(pretrained.folder(name), network)
    split = packaged_photographs()
    train, test = (
        torch.stack([middle(photo.path) for photo in part if photo.label is not None])
        for part in (split.train, split.test)
    )
    answers = network(train).argmax(1)
    ball = Ball(math.inf, 10.0)
    rho = cosine_uap(network, TensorImages(train.byte()), answers, ball, 7, steps=24).rho
    clean, attacked = network(test), (test + rho).clamp(0, 255).round()
    seen = guard.inspect(attacked)
    assert seen.perturbed.float().mean() >= 0.9
    # One of the ten, the woven pattern of a rug, is taken for perturbed.
    assert guard.inspect(test).perturbed.float().mean() <= 0.2
    # Most of the perturbation's energy is gone, and the classifier sees nearly what it saw before.
    left = (seen.rectified - test).flatten(1).norm(dim=1) / (attacked - test).flatten(1).norm(dim=1)
    assert left.median() < 0.65
    assert (seen.logits - clean).norm() < 0.75 * (network(attacked) - clean).norm()


def middle(file):
    """The middle of a photograph, scaled as it was for the training, 3 x 224 x 224."""
    image = Image.open(file).convert("RGB")
    scaled = functional.resize(functional.pil_to_tensor(image), [256], antialias=True)
    return functional.center_crop(scaled, [224]).float()
