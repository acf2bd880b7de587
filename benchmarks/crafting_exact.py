"""The exact DeepFool-UAP engine against a plain loop: equal perturbations, ratio of seconds.

The plain loop is written as ports of the authors' code are, and runs twice: on the network as its
library ships it (weights that take gradients, default memory format), which is what the engine is
faster than, and on the very network that the engine is given, where its perturbation must be equal.
Between two memory formats the sums inside the network run in another order, and the runs part
within a few images, because linearisations jump where a rectified unit switches on.

    python benchmarks/crafting_exact.py --network efficientnet_lite0 --count 64
    python benchmarks/crafting_exact.py --network squeezenet --weights FILE --images FOLDER
"""

import time

from crafting_setup import LINF, Stock, options, plain_loop, setup

from uap_lightning.attacks.deepfool_uap import deepfool_uap
from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.norms import LpNorm


def main() -> None:
    """Print the largest difference in pixel units and the ratios of seconds, for both norms."""
    parser = options(__doc__)
    parser.add_argument("--passes", type=int, default=1)
    arguments = parser.parse_args()
    network, craft, unseen = setup(arguments)
    for norm in (LINF, LpNorm(2.0, 2000.0 * arguments.size / 224)):
        started = time.perf_counter()
        crafted = deepfool_uap(
            network, craft, craft.prediction, norm, 0, goal=1.0, max_passes=arguments.passes
        )
        ours = time.perf_counter() - started
        ratio = fooling_ratio(network, unseen, unseen.prediction, crafted.rho)
        print(f"l{norm.p:g}: engine {ours:.1f} s, fooling ratio on unseen images {ratio:.3f}")
        for name, loop in (("stock network", Stock(network)), ("same network", network)):
            started = time.perf_counter()
            rho = plain_loop(loop, craft, norm, 0, arguments.passes)
            seconds = time.perf_counter() - started
            difference = float((rho - crafted.rho).abs().max())
            print(
                f"l{norm.p:g}: plain loop, {name}: {seconds:.1f} s, plain / engine "
                f"{seconds / ours:.2f}, largest difference {difference:.2e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
