"""The defences that an experiment compares: trained folders, and rectifiers without training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from uap_lightning.core.errors import UapError
from uap_lightning.detectors import NoDetector
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.rectifiers import RECTIFIERS


@dataclass(frozen=True)
class Entry:
    """A defence that is measured.

    Attributes:
        name: its rectifier, and the network and the norm it was trained for.
        rectifier: maps images to images.
        detector: scores what that removes.
        trained_on: identities of the perturbations and photographs it may not be tested on.
        digest: of a defence folder; None of what was not trained.
    """

    name: str
    rectifier: nn.Module
    detector: nn.Module
    trained_on: frozenset[str] = frozenset()
    digest: str | None = None


@dataclass(frozen=True)
class Cost:
    """What a defence is, for the record.

    Attributes:
        defense: its name.
        digest: of its folder; None where there is none.
        gmac: billions of multiplications and additions an image takes, without the network.
    """

    defense: str
    digest: str | None
    gmac: float


def entries(folders: list[str], rectifiers: list[str], size: int) -> list[Entry]:
    """The trained defences of some folders, and registered rectifiers that rectify every image.

    Args:
        folders: defence folders, or NAME=FOLDER of those that have a name of their own.
        rectifiers: names of registered ones.
        size: side of the images.

    Raises:
        UapError: a folder is none, was trained on images of another size, or a name is unknown.
    """
    found = []
    for told in folders:
        called, _, folder = told.partition("=")
        # The folders of runs have equals signs in their names as well.
        if Path(told).exists() or not folder or "/" in called:
            called, folder = "", told
        defense = load_defense(folder)
        if defense.size != size:
            raise UapError(
                f"--defense {folder} was trained on images of side {defense.size} and data.crop "
                f"is {size}: set data.crop={defense.size}."
            )
        name = called or "{rectifier}, {train_network}, {train_norm}".format(**defense.condition)
        parts = (defense.rectifier, defense.detector, defense.trained_on, defense.digest)
        found.append(Entry(name, *parts))
    for name in rectifiers:
        found.append(Entry(name, RECTIFIERS.find(name)().eval(), NoDetector()))
    names = [entry.name for entry in found]
    if len(set(names)) < len(names):
        raise UapError(
            f"two of the defences are called alike ({', '.join(names)}): name each "
            "rectifier once, and give defences names, as --defense NAME=FOLDER."
        )
    return found


def check_unseen_photographs(entry: Entry, tested_on: Mapping[str, str]) -> None:
    """Refuse a defence that was trained on photographs of the test.

    Args:
        entry: the defence.
        tested_on: names of the test photographs by their identities.

    Raises:
        UapError: it was.
    """
    shared = [name for key, name in tested_on.items() if key in entry.trained_on]
    if shared:
        raise UapError(
            f"{entry.name} was trained on {len(shared)} of the {len(tested_on)} test "
            f"photographs (such as {shared[0]}): expected none; test on others (data.test_root)."
        )


@torch.no_grad()
def cost(entry: Entry, size: int) -> Cost:
    """What an entry's rectifier and detector compute for one image, by PyTorch's own count."""
    parts = (*entry.rectifier.parameters(), *entry.rectifier.buffers())
    device = next((part.device for part in parts), torch.device("cpu"))
    image = torch.full((1, 3, size, size), 127.0, device=device)
    with FlopCounterMode(display=False) as counter:
        entry.detector(image - entry.rectifier(image))
    return Cost(entry.name, entry.digest, counter.get_total_flops() / 2e9)
