"""Perturbations without data: what later papers propose, at equal gradients but for the last row.

    python benchmarks/crafting_data_free.py --network efficientnet_lite0 --size 128 --images FOLDER

Each figure is the median fooling ratio over the seeds, on photographs that no perturbation was
crafted on.
"""

import statistics
import time

from crafting_setup import LINF, options, setup

from uap_lightning.attacks.data_free import data_free
from uap_lightning.attacks.fooling import fooling_ratio

# Gradients of one perturbation, of one image each.
GRADIENTS = 100
VARIANTS: dict[str, dict[str, object]] = {
    "GD-UAP: no images, all layers": {"prior": "none", "depth": 1.0},
    "GD-UAP, first layers": {"prior": "none"},
    "default: noise like photographs": {},
    "parts of the perturbation, after PSP-UAP": {"prior": "own"},
    "ratio, no images, after TRM-UAP": {"excitation": "ratio", "prior": "none"},
    "ratio, noise like photographs": {"excitation": "ratio"},
    "inner attack of one step, after AT-UAP": {"hardening": 1, "steps": GRADIENTS // 2},
    "inner attack of four steps": {"hardening": 4, "steps": GRADIENTS // 5},
    "inner attack of four steps, five times the gradients": {"hardening": 4},
}


def main() -> None:
    """Print a row of a Markdown table for each variant."""
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    network, _, unseen = setup(arguments)
    print("| variant | fooling | seconds |\n| --- | ---: | ---: |")
    for name, settings in VARIANTS.items():
        ratios, seconds = [], []
        for seed in range(arguments.seeds):
            started = time.perf_counter()
            given = {"steps": GRADIENTS, **settings}
            rho = data_free(network, unseen, unseen.prediction, LINF, seed, **given).rho  # type: ignore[arg-type]
            seconds.append(time.perf_counter() - started)
            ratios.append(fooling_ratio(network, unseen, unseen.prediction, rho))
        ratio, took = statistics.median(ratios), statistics.median(seconds)
        print(f"| {name} | {ratio:.3f} | {took:.1f} |", flush=True)


if __name__ == "__main__":
    main()
