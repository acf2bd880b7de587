"""Figures 1 and 4 of the paper: what becomes of chosen photographs, clean to rectified.

The photographs are cropped in the centre and perturbed with the run's test perturbations:

    python experiments/examples.py --run outputs/quickstart --output examples.png FILE [FILE ...]

Without files it shows the two photographs of scikit-image that ``data=photos`` keeps unseen and
that may be redistributed.
"""

import argparse
import importlib.util
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from torchvision.transforms import functional

from uap_lightning.config import build
from uap_lightning.data.cache import read_pixels
from uap_lightning.defense import Guard
from uap_lightning.defense_folder import load_defense
from uap_lightning.norms import ball
from uap_lightning.panel import class_names, draw_panel
from uap_lightning.perturbations.bank import open_bank
from uap_lightning.results import read_results

UNSEEN = ("chelsea.png", "coffee.png")


def unseen_photographs() -> list[Path]:
    """The two photographs of scikit-image that training leaves out."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("scikit-image is not installed: pip install 'uap-lightning[quickstart]'.")
    return [Path(spec.origin).parent / "data" / name for name in UNSEEN]


def main() -> None:
    """Draw the panel of a finished run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("outputs/quickstart"))
    parser.add_argument("--banks", type=Path, default=Path("banks"))
    parser.add_argument("--output", type=Path, default=Path("examples.png"))
    parser.add_argument("files", type=Path, nargs="*")
    arguments = parser.parse_args()
    results = read_results(arguments.run / "results.json")
    config: Any = OmegaConf.create(cast(dict[str, Any], results["config"]))
    network = build(config.network)
    defense = load_defense(arguments.run / "defense")
    norm = ball(config.norm.p, config.norm.eps, config.norm.reference_size, config.data.crop)
    identity = str(defense.condition["bank"])[:12]
    bank = open_bank(
        next(arguments.banks.glob(f"*-{identity}")), network.name, norm, config.data.crop
    )
    files = arguments.files or unseen_photographs()
    pixels = [read_pixels(file, config.data.resize, config.data.crop) for file in files]
    crops = [
        functional.center_crop(torch.from_numpy(image.copy()).permute(2, 0, 1), [config.data.crop])
        for image in pixels
    ]
    images = torch.stack(crops).float()
    rho = bank.test[torch.arange(len(images)) % len(bank.test)]
    guard = Guard(network, defense.rectifier, defense.detector)
    names = class_names(network.check_size(config.data.crop))
    draw_panel(guard, images, rho, names).save(arguments.output)


if __name__ == "__main__":
    main()
