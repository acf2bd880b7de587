"""Fooling ratio on unseen images against seconds, as curves: our engines and their peers.

Each engine is run anew at growing budgets (gradient steps, or images gone through once, then more
passes) while twice the seconds of the last run are within its limit; a run is a point. The plain
loop, which can be looked at while it goes on, runs once. The peers are it, a simple form of SGA,
and ART's UniversalPerturbation with DeepFool (10 iterations, 10 gradients, epsilon 0.02). ART
multiplies its DeepFool steps by the range of the pixels: on a network that takes 0-255, as here,
its perturbations saturate soon and fool sooner than those of the plain loop.
For each peer, the time it needs for its highest level is compared with the least time in which one
of ours reaches it:

    python benchmarks/crafting_curves.py --network squeezenet --weights FILE --images FOLDER \
        --count 500 --unseen 200 --picture curves.png
"""

import time
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from art.attacks.evasion import UniversalPerturbation
from art.estimators.classification import PyTorchClassifier
from crafting_setup import LINF, Setup, Stock, Subset, options, plain_loop, setup, simple_sga
from matplotlib import pyplot
from torch import Tensor, nn

from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.data_free import data_free
from uap_lightning.attacks.deepfool_uap import deepfool_uap
from uap_lightning.attacks.deepfool_uap_batched import deepfool_uap_batched
from uap_lightning.attacks.fooling import fooling_ratio

Curve = list[tuple[float, float]]
PEERS = ("ART", "simple SGA", "plain loop")


def engines(found: Setup) -> dict[str, Callable[[int], Tensor]]:
    """What crafts with budget 0, 1, 2, ...: each about twice the work of the one before."""
    network, craft, _ = found
    predictions = craft.prediction
    stock = Stock(network)

    def work(budget: int) -> tuple[Subset, int]:
        """Images gone through, and passes over them: a power of two, all images first."""
        images = Subset(craft, 8 * 2**budget)
        passes, reached = 1, len(images)
        while reached < 8 * 2**budget:
            passes, reached = 2 * passes, 2 * reached
        return images, passes

    def art(budget: int) -> Tensor:
        images, passes = work(budget)
        classes = network.classes(craft.size)
        classifier = PyTorchClassifier(
            stock,
            loss=nn.CrossEntropyLoss(),
            input_shape=(3, craft.size, craft.size),
            nb_classes=classes,
            clip_values=(0, 255),
            device_type="gpu" if network.mean.is_cuda else "cpu",
        )
        settings = {"max_iter": 10, "nb_grads": 10, "epsilon": 0.02, "verbose": False}
        attack = UniversalPerturbation(
            classifier,
            attacker="deepfool",
            attacker_params=settings,
            delta=1e-6,
            max_iter=passes,
            eps=LINF.eps,
            norm=np.inf,
            verbose=False,
        )
        attack.generate(images.take(range(len(images))).float().numpy())
        return torch.from_numpy(np.asarray(attack.noise, dtype=np.float32)).reshape(
            3, *[craft.size] * 2
        )

    def exact(budget: int) -> Tensor:
        images, passes = work(budget)
        said = predictions[: len(images)]
        return deepfool_uap(network, images, said, LINF, 0, goal=1.0, max_passes=passes).rho

    def batched(budget: int) -> Tensor:
        images, passes = work(budget)
        said = predictions[: len(images)]
        return deepfool_uap_batched(network, images, said, LINF, 0, goal=1.0, max_passes=passes).rho

    def gradient(budget: int) -> Tensor:
        return cosine_uap(network, craft, predictions, LINF, 0, steps=4 * 2**budget).rho

    def free(budget: int) -> Tensor:
        return data_free(network, craft, predictions, LINF, 0, steps=2 * 2**budget).rho

    def gd_uap(budget: int) -> Tensor:
        steps, as_there = 2 * 2**budget, {"prior": "none", "depth": 1.0}
        return data_free(network, craft, predictions, LINF, 0, steps=steps, **as_there).rho  # type: ignore[arg-type]

    def small_sga(budget: int) -> Tensor:
        return simple_sga(stock, craft, predictions, LINF, 0, steps=2**budget)

    return {
        "cosine_uap": gradient,
        "GD-UAP": gd_uap,
        "data_free": free,
        "deepfool_uap_batched": batched,
        "deepfool_uap": exact,
        "simple SGA": small_sga,
        "ART": art,
    }


def curve(craft: Callable[[int], Tensor], found: Setup, limit: float) -> Curve:
    """Points (seconds, fooling ratio on unseen images) at growing budgets."""
    points: Curve = []
    while not points or (2 * points[-1][0] < limit and len(points) < 12):
        started = time.perf_counter()
        rho = craft(len(points))
        points.append(point(found, time.perf_counter() - started, rho))
    return points


def plain_curve(found: Setup, limit: float) -> Curve:
    """Points of one run of the plain loop, each at 1.4 times the seconds of the one before."""
    points: Curve = []
    seconds, started = 0.0, time.perf_counter()
    for rho in plain_loop(Stock(found.network), found.craft, LINF, 0, 10):
        seconds += time.perf_counter() - started
        if not points or seconds > 1.4 * points[-1][0] or seconds > limit:
            points.append(point(found, seconds, rho))
        if seconds > limit:
            break
        started = time.perf_counter()
    return points


def point(found: Setup, seconds: float, rho: Tensor) -> tuple[float, float]:
    """Seconds and the fooling ratio on unseen images, which is printed."""
    ratio = fooling_ratio(found.network, found.unseen, found.unseen.prediction, rho)
    print(f"  {seconds:7.1f} s  {ratio:.3f}", flush=True)
    return seconds, ratio


def draw(curves: dict[str, Curve], title: str, picture: Path) -> None:
    """All curves in one picture, seconds on a logarithmic axis."""
    mpl.use("agg")
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name, points in curves.items():
        style = "--" if name in PEERS else "-"
        axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3, label=name)
    axes.set(xscale="log", xlabel="seconds", ylabel="fooling ratio, unseen images", title=title)
    axes.set_ylim(0, 1)
    axes.legend()
    figure.savefig(picture, dpi=150)


def main() -> None:
    """Print every point, draw the picture, and print one ratio for each peer."""
    parser = options(__doc__)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of a peer")
    parser.add_argument("--own-limit", type=float, default=100.0, help="seconds of an engine")
    parser.add_argument("--picture", type=Path, default=Path("crafting_curves.png"))
    arguments = parser.parse_args()
    found = setup(arguments)
    curves = {}
    for name, craft in engines(found).items():
        print(name, flush=True)
        limit = arguments.limit if name in PEERS else arguments.own_limit
        curves[name] = curve(craft, found, limit)
    print("plain loop", flush=True)
    curves["plain loop"] = plain_curve(found, arguments.limit)
    draw(
        curves,
        f"{found.network.name}, l_inf {LINF.eps:g}, side {arguments.size}",
        arguments.picture,
    )
    ours = [point for name, points in curves.items() if name not in PEERS for point in points]
    for peer in PEERS:
        within = [point for point in curves[peer] if point[0] <= arguments.limit]
        if not within:
            print(f"{peer}: no run within {arguments.limit:g} s")
            continue
        level = max(ratio for _, ratio in within)
        seconds = min(t for t, ratio in within if ratio == level)
        reached = [t for t, ratio in ours if ratio >= level]
        said = f"{seconds / min(reached):.1f} times as fast" if reached else "not reached by ours"
        print(f"{peer}: {level:.3f} after {seconds:.1f} s; {said}")


if __name__ == "__main__":
    main()
