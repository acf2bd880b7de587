"""Which layout is a published perturbation in? Fooling ratios in each, for each file.

A perturbation of another network fools by transfer, and most so the right way round:

    python benchmarks/crafting_layouts.py --network squeezenet --weights FILE --images FOLDER \
        --count 1 --unseen 250 --format sfr_uap_h5 --eps 10 --files *.h5
"""

from dataclasses import replace
from pathlib import Path

from crafting_setup import options, setup

from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.published import ORDERS, SOURCES, read_published


def main() -> None:
    """Print a line for each file, the documented layout marked."""
    parser = options(__doc__)
    parser.add_argument("--files", type=Path, nargs="+", required=True)
    parser.add_argument("--format", choices=SOURCES, required=True)
    parser.add_argument("--p", type=float, default=float("inf"))
    parser.add_argument("--eps", type=float, required=True)
    arguments = parser.parse_args()
    network, _, unseen = setup(arguments)
    documented = SOURCES[arguments.format]
    # The channels' place is plain from the shape; rows and columns are not.
    orientations = ("hwc", "whc") if documented.orientation.endswith("c") else ("chw", "cwh")
    for file in arguments.files:
        print(file.name)
        for orientation in orientations:
            for order in ORDERS:
                layout = replace(documented, orientation=orientation, order=order)
                rho = read_published(file, layout, Ball(arguments.p, arguments.eps))
                ratio = fooling_ratio(network, unseen, unseen.prediction, rho)
                mark = "  documented" if layout == documented else ""
                print(f"  {orientation} {order} {ratio:.3f}{mark}", flush=True)


if __name__ == "__main__":
    main()
