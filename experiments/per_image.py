"""What an attacker leaves who computes a new perturbation for each image: not what this is for.

Projected gradient descent (foolbox's LinfPGD) through classifier, rectifier and detector, with the
gradient of a soft decision; judged by the defence as it is in use, with its hard decision and on
rounded images. The same against the bare classifier is the floor. Takes the settings of ``craft``
for network and photographs.

python -m experiments.per_image --defense RUN/defense --photographs 100 \
    network=efficientnet_lite0 norm=linf data=imagenet_sample data.root=FOLDER \
    data.test_root=FOLDER data.resize=146 data.crop=128
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from foolbox.attacks import LinfPGD
from omegaconf import DictConfig
from torch import Tensor

from experiments.defenses import Entry, check_unseen_photographs, entries
from experiments.stream_setting import answers, interval, parse, test_photographs
from experiments.unseen_attacks import judged
from experiments.unseen_tables import Line, PerImage
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_json
from uap_lightning.core.version import __version__
from uap_lightning.data import Collection
from uap_lightning.detectors import NoDetector
from uap_lightning.guard.adapters.foolbox import foolbox_model
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.config import build, typed
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.jobs.stages import check_labels, load_network
from uap_lightning.rectifiers import Identity

log = logging.getLogger(__name__)

_BATCH = 20
_SEED = 0


def attacked(guard: Guard, images: Tensor, label: Tensor, eps: float, steps: int) -> Tensor:
    """Images that the attack makes of others: uint8 N x 3 x H x W."""
    model = foolbox_model(guard, soft_gate=True)
    attack = LinfPGD(steps=steps, rel_stepsize=2.5 / steps)
    device, made = guard.network.mean.device, []
    for batch, wanted in zip(*(torch.split(x, _BATCH) for x in (images, label)), strict=True):
        given = batch.to(device).float()
        _, found, _ = attack(model, given, wanted.to(device), epsilons=eps)
        made.append(found.detach().round().clamp(0, 255).to(torch.uint8).cpu())
    return torch.cat(made)


def line(
    name: str, guard: Guard, images: Tensor, label: Tensor, plain: Tensor, eps: float, steps: int
) -> Line:
    """One guard under attack, relative to the right answers of the bare network (bool, N)."""
    torch.manual_seed(_SEED)  # foolbox draws its starting points from it
    clean = judged(guard, images)[0] == label
    answer, scores = judged(guard, attacked(guard, images, label, eps, steps))
    right = answer == label
    return Line(
        name,
        100 * float(clean.double().sum() / plain.double().sum()),
        100 * float(right.double().sum() / plain.double().sum()),
        interval(right, plain, _SEED),
        100 * float((scores > 0).double().mean()),
        eps,
        steps,
        len(images),
    )


def measure(composed: DictConfig, options: argparse.Namespace) -> None:
    """Measure, and write ``results.json``."""
    cfg = typed(composed, CraftConfig)
    if cfg.norm.name != "linf":
        raise UapError(f"norm is {cfg.norm.name}: expected linf, which the attack is made for.")
    cfg.data.update(train_crops=1, test_crops=1)
    data = build(cfg.data, Collection)
    network = load_network(cfg.network, cfg.accelerator).eval().requires_grad_(False)
    check_labels(data, network)
    compared = entries(options.defense, [], data.crop)
    for entry in compared:
        check_unseen_photographs(entry, data.tested_on)
    images, label = test_photographs(network, data, options.photographs, cfg.seed, learn=0)
    plain = answers(network, images.float()) == label
    device, eps = network.mean.device, cfg.ball().eps
    lines = []
    for entry in [Entry("no defence", Identity(), NoDetector()), *compared]:
        guard = Guard(network, entry.rectifier, entry.detector).to(device).requires_grad_(False)
        lines.append(line(entry.name, guard, images, label, plain, eps, options.steps))
        log.info("%s", lines[-1])
    content = PerImage(
        schema=1,
        status="ok",
        network=network.name,
        size=data.crop,
        seed=cfg.seed,
        command=f"python -m experiments.per_image {options.command}",
        version=__version__,
        lines=lines,
    )
    write_json(Path(composed.paths.output_dir) / "results.json", asdict(content))


def parsed(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """This script's own options, and the overrides that are Hydra's."""
    known = argparse.ArgumentParser(description=__doc__)
    known.add_argument("--defense", action="append", required=True, help="FOLDER or NAME=FOLDER")
    known.add_argument("--photographs", type=int, default=100, help="test photographs at most")
    known.add_argument("--steps", type=int, default=20, help="gradient steps for each image")
    return parse(known, arguments)


if __name__ == "__main__":
    chosen, overrides = parsed(sys.argv[1:])
    sys.argv = [sys.argv[0], *overrides, "hydra.run.dir=outputs/experiments/per_image/${name}"]
    launch(partial(measure, options=chosen), "craft")
