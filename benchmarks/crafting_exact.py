"""The exact DeepFool-UAP engine against a plain loop: equal perturbations, ratio of seconds.

The plain loop is written as ports of the authors' code are. For the seconds it runs on the network
as its library ships it: weights that take gradients, default memory format. For the perturbations
it runs on the very network that the engine is given, both with one thread: in another memory format
or number of threads the sums inside the network run in another order, and the runs part within a
few images, because linearisations jump where a rectified unit switches on.

    python benchmarks/crafting_exact.py --network efficientnet_lite0 --count 64
    python benchmarks/crafting_exact.py --network squeezenet --weights FILE --images FOLDER
"""

import time
from collections import deque

import torch
from crafting_setup import LINF, Stock, Subset, options, plain_loop, setup
from torch import Tensor

from uap_lightning.attacks.deepfool_uap import deepfool_uap
from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.data.crops import CropDataset
from uap_lightning.perturbations.ball import Ball


def main() -> None:
    """Print the largest difference in pixel units and the ratios of seconds, for both norms."""
    parser = options(__doc__)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--equal", type=int, default=32, help="images compared with one thread")
    arguments = parser.parse_args()
    network, craft, unseen = setup(arguments)
    few = Subset(craft, arguments.equal)

    def engine(images: CropDataset | Subset, norm: Ball) -> Tensor:
        predictions = craft.prediction[: len(images)]
        passes = arguments.passes
        return deepfool_uap(network, images, predictions, norm, 0, goal=1.0, max_passes=passes).rho

    for norm in (LINF, Ball(2.0, 2000.0 * arguments.size / 224)):
        started = time.perf_counter()
        rho = engine(craft, norm)
        ours = time.perf_counter() - started
        ratio = fooling_ratio(network, unseen, unseen.prediction, rho)
        print(f"l{norm.p:g}: engine {ours:.1f} s, fooling ratio on unseen images {ratio:.3f}")
        started = time.perf_counter()
        deque(plain_loop(Stock(network), craft, norm, 0, arguments.passes), maxlen=0)
        seconds = time.perf_counter() - started
        print(f"l{norm.p:g}: plain loop {seconds:.1f} s, plain / engine {seconds / ours:.2f}")
        torch.set_num_threads(1)
        *_, plain = plain_loop(network, few, norm, 0, arguments.passes)
        difference = float((plain - engine(few, norm)).abs().max())
        torch.set_num_threads(arguments.threads)
        print(f"l{norm.p:g}: {len(few)} images: largest difference {difference:.2e}", flush=True)


if __name__ == "__main__":
    main()
