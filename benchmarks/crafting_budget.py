"""Which attack fools most, from how many photographs and for how many gradients.

    python benchmarks/crafting_budget.py --network efficientnet_lite0 --size 128 --images FOLDER \
        --count 2400 --unseen 300 --photographs 128 700 2400 --gradients 720 2880

A row of a Markdown table for each attack, number of photographs and budget: the fooling ratio on
photographs that none of them crafted on. The budget is the number of gradients of single images;
``flat_uap`` looks at each of these images once more, without a gradient.
"""

import time
from collections.abc import Callable
from functools import partial

from crafting_setup import LINF, Subset, options, setup

from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.flat_uap import flat_uap
from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.attacks.sga import sga
from uap_lightning.attacks.universal import Attack, Universal
from uap_lightning.perturbations.ball import Ball

_BATCH = 8
_INNER = 4


def in_batches(attack: Callable[..., Universal], gradients: int) -> Attack:
    """An attack of one gradient an image of each batch."""
    return partial(attack, steps=gradients // _BATCH, batch_size=_BATCH)


def aggregated(loss: str, gradients: int) -> Attack:
    """SGA, whose inner steps take four images each."""
    steps = gradients // (_INNER * 4)
    return partial(sga, loss=loss, steps=steps, inner=_INNER, inner_batch_size=4)


ATTACKS: dict[str, Callable[[int], Attack]] = {
    "cosine_uap": partial(in_batches, cosine_uap),
    "flat_uap": partial(in_batches, flat_uap),
    "sga, cross_entropy": partial(aggregated, "cross_entropy"),
    "sga, cosine": partial(aggregated, "cosine"),
    "sga, margin": partial(aggregated, "margin"),
}


def main() -> None:
    """Print the table, row after row."""
    parser = options(__doc__)
    parser.add_argument("--photographs", nargs="+", type=int, default=[128, 700, 2400])
    parser.add_argument("--gradients", nargs="+", type=int, default=[720, 2880])
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--norm", choices=("linf", "l2"), default="linf")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    network, craft, unseen = setup(arguments)
    norm = LINF if arguments.norm == "linf" else Ball(2.0, 2000.0 * arguments.size / 224)
    print("| photographs | gradients | attack | fooling, unseen | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for count in arguments.photographs:
        for gradients in arguments.gradients:
            for name in arguments.attacks:
                images, attack = Subset(craft, count), ATTACKS[name](gradients)
                started = time.perf_counter()
                rho = attack(network, images, craft.prediction[:count], norm, arguments.seed).rho
                seconds = time.perf_counter() - started
                found = fooling_ratio(network, unseen, unseen.prediction, rho)
                print(
                    f"| {len(images)} | {gradients} | {name} | {found:.3f} | {seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
