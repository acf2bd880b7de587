"""Figures 1 and 4: photographs, clean, perturbed and rectified, with what the network says.

A finished training is shown with ``--run``; a defence without its run and its photographs with
``--defense``, ``--bank`` and one ``--network``. Without files it takes the two photographs of
scikit-image that ``data=photos`` leaves out of training; perturbations are the test ones of the
bank. Any photographs given must be ones that the defence was not trained on, and a picture that is
published must be of photographs that may be: ImageNet's may not.
"""

import argparse
import importlib.util
import shlex
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torchvision.transforms import functional

from experiments.configs import composed, settings_of
from experiments.runs import (
    Job,
    carry_out,
    parser,
    plan_of,
    require_results,
)
from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically
from uap_lightning.data.decoding import read_pixels
from uap_lightning.data.imagenet_classes import class_names
from uap_lightning.data.photographs import Photograph
from uap_lightning.guard.defense_folder import Defense, load_defense
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.schema import CraftConfig, TrainConfig
from uap_lightning.jobs.stages import find_bank, load_data_and_network, load_network
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.bank import open_bank
from uap_lightning.training.panel import draw_panel

UNSEEN = ("chelsea.png", "coffee.png")


def unseen_photographs() -> list[Path]:
    """The two photographs of scikit-image that training leaves out."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("scikit-image is not installed: pip install 'uap-lightning[quickstart]'.")
    return [Path(spec.origin).parent / "data" / name for name in UNSEEN]


def draw_run(job: Job, files: Sequence[Path], output: Path) -> None:
    """Draw the panel of a finished training."""
    cfg = settings_of(job, TrainConfig)
    data, network = load_data_and_network(cfg)
    perturbations = find_bank(cfg, data, network).test
    draw(load_defense(job.folder / "defense"), network, perturbations, files, output)


def draw_defense(chosen: argparse.Namespace, files: Sequence[Path], output: Path) -> None:
    """Draw the panel of a defence folder and a bank.

    Raises:
        UapError: they do not fit each other or the network.
    """
    defense = load_defense(chosen.defense)
    words = [*shlex.split(chosen.network[0]), f"norm={defense.condition['train_norm']}"]
    cfg = composed("craft", [*words, *chosen.overrides], CraftConfig)
    network = load_network(cfg.network, cfg.accelerator)
    ball = cfg.norm.ball(defense.size)
    perturbations = open_bank(chosen.bank, network, ball, defense.size).test
    draw(defense, network, perturbations, files, output)


def draw(
    defense: Defense,
    network: TargetNetwork,
    perturbations: Tensor,
    files: Sequence[Path],
    output: Path,
) -> None:
    """Draw central crops of photographs, resized as in training, each under a perturbation."""
    resize = cast(int | None, defense.condition.get("resize"))
    crops = [
        functional.center_crop(torch.from_numpy(image.copy()).permute(2, 0, 1), [defense.size])
        for image in (read_pixels(Photograph(str(file), None), resize, 1) for file in files)
    ]
    device = network.mean.device
    images = torch.stack(crops).float().to(device)
    rho = perturbations[torch.arange(len(images)) % len(perturbations)].to(device)
    guard = Guard(network, defense.rectifier, defense.detector).to(device)
    names = class_names(network.classes(defense.size))
    content = BytesIO()
    draw_panel(guard, images, rho, names).save(content, "PNG")
    write_atomically(output, content.getvalue())


def main(arguments: list[str] | None = None) -> None:
    """Train where no run is given, and draw its panel."""
    options = parser(__doc__)
    options.add_argument("--run", type=Path, help="a finished training; one is run without")
    options.add_argument("--defense", type=Path, help="a defence folder, with --bank")
    options.add_argument("--bank", type=Path, help="the folder of its perturbations")
    options.add_argument("--picture", type=Path, help="the PNG to write")
    options.add_argument("--file", type=Path, action="append", help="a photograph to show")
    chosen = options.parse_intermixed_args(arguments)
    plan = plan_of(chosen, "outputs/experiments")
    files = chosen.file or unseen_photographs()
    if chosen.defense is not None:
        if chosen.bank is None or len(chosen.network or ()) != 1:
            raise SystemExit(
                "error: --defense needs its perturbations and its network: give --bank FOLDER and "
                "one --network."
            )
        try:
            draw_defense(chosen, files, chosen.picture or plan.folder / "figure_4.png")
        except UapError as error:
            raise SystemExit(f"error: {error}") from error
        return
    if chosen.run is None:
        jobs = [plan.train(network, "linf") for network in plan.networks]
        if not carry_out(jobs, chosen):
            return
    else:
        jobs = [Job("train", (), chosen.run)]
    require_results(jobs)
    for job in jobs:
        path = chosen.picture or plan.folder / f"figure_4_{job.folder.name}.png"
        draw_run(job, files, path)


if __name__ == "__main__":
    main()
