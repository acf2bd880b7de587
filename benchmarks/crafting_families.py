"""Every family of attack with its own settings: fooling ratios, seen and unseen, and seconds.

    python benchmarks/crafting_families.py --network efficientnet_lite0 --size 160 --images FOLDER

Each figure is the median over the seeds.
"""

import statistics
import time
from pathlib import Path

from crafting_setup import LINF, options, setup
from hydra.utils import instantiate
from omegaconf import OmegaConf

from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.attacks.universal import Attack
from uap_lightning.perturbations.ball import Ball

CONF = Path(__file__).parents[1] / "conf" / "attack"


def main() -> None:
    """Print a row of a Markdown table for each family and norm: medians over seeds."""
    families = sorted(path.stem for path in CONF.glob("*.yaml"))
    parser = options(__doc__)
    parser.add_argument("--families", nargs="+", choices=families, default=families)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--goal", type=float, default=0.8, help="where DeepFool's stop")
    arguments = parser.parse_args()
    network, craft, unseen = setup(arguments)
    print("| family | norm | fooling, seen | fooling, unseen | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for family in arguments.families:
        bank = {"min_fooling_ratio": arguments.goal}
        config = OmegaConf.create({"bank": bank, "attack": OmegaConf.load(CONF / f"{family}.yaml")})
        del config.attack.name
        attack: Attack = instantiate(config.attack)
        for norm in (LINF, Ball(2.0, 2000.0 * arguments.size / 224)):
            rows = []
            for seed in range(arguments.seeds):
                started = time.perf_counter()
                rho = attack(network, craft, craft.prediction, norm, seed).rho
                seconds = time.perf_counter() - started
                ratios = [
                    fooling_ratio(network, part, part.prediction, rho) for part in (craft, unseen)
                ]
                rows.append((*ratios, seconds))
            seen, other, seconds = map(statistics.median, zip(*rows, strict=True))
            print(
                f"| {family} | l{norm.p:g} | {seen:.3f} | {other:.3f} | {seconds:.1f} |", flush=True
            )


if __name__ == "__main__":
    main()
