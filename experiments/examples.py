"""Figures 1 and 4: photographs, clean, perturbed and rectified, with what the network says.

Without files it takes the two photographs of scikit-image that ``data=photos`` leaves out of
training; perturbations are the test ones of the run's bank. Any photographs given must be ones
that the run was not trained on.
"""

import importlib.util
from io import BytesIO
from pathlib import Path

import torch
from torchvision.transforms import functional

from experiments.runs import Job, carry_out, parser, plan_of, require_results, settings_of
from uap_lightning.core.storage import write_atomically
from uap_lightning.data.decoding import read_pixels
from uap_lightning.data.imagenet_classes import class_names
from uap_lightning.data.photographs import Photograph
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.jobs.stages import find_bank, load_data_and_network
from uap_lightning.training.panel import draw_panel

UNSEEN = ("chelsea.png", "coffee.png")


def unseen_photographs() -> list[Path]:
    """The two photographs of scikit-image that training leaves out."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("scikit-image is not installed: pip install 'uap-lightning[quickstart]'.")
    return [Path(spec.origin).parent / "data" / name for name in UNSEEN]


def draw(job: Job, files: list[Path], output: Path) -> None:
    """Draw the panel of a finished training."""
    cfg = settings_of(job, TrainConfig)
    data, network = load_data_and_network(cfg)
    bank = find_bank(cfg, data, network)
    photographs = [Photograph(file, None) for file in files]
    pixels = [read_pixels(photograph, cfg.data["resize"], 1) for photograph in photographs]
    crops = [
        functional.center_crop(torch.from_numpy(image.copy()).permute(2, 0, 1), [data.crop])
        for image in pixels
    ]
    device = network.mean.device
    images = torch.stack(crops).float().to(device)
    rho = bank.test[torch.arange(len(images)) % len(bank.test)].to(device)
    defense = load_defense(job.folder / "defense")
    guard = Guard(network, defense.rectifier, defense.detector).to(device)
    names = class_names(network.classes(data.crop))
    content = BytesIO()
    draw_panel(guard, images, rho, names).save(content, "PNG")
    write_atomically(output, content.getvalue())


def main(arguments: list[str] | None = None) -> None:
    """Train where no run is given, and draw its panel."""
    options = parser(__doc__)
    options.add_argument("--run", type=Path, help="a finished training; one is run without")
    options.add_argument("--picture", type=Path, help="the PNG to write")
    options.add_argument("--file", type=Path, action="append", help="a photograph to show")
    chosen = options.parse_intermixed_args(arguments)
    plan = plan_of(chosen, "outputs/experiments")
    if chosen.run is None:
        jobs = [plan.train(network, "linf") for network in plan.networks]
        if not carry_out(jobs, chosen):
            return
    else:
        jobs = [Job("train", (), chosen.run)]
    require_results(jobs)
    for job in jobs:
        path = chosen.picture or plan.folder / f"figure_4_{job.folder.name}.png"
        draw(job, chosen.file or unseen_photographs(), path)


if __name__ == "__main__":
    main()
