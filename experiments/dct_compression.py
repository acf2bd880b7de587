"""The supplementary's DCT study: fooling ratio and clean accuracy against compression rate.

Images are compressed by setting the smallest coefficients of their DCT to zero, perturbed or
not. The paper draws the curves without numbers: it argues that no one rate suits both kinds of
image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from experiments.configs import settings_of
from experiments.render import write_figure, write_records
from experiments.runs import NORMS, Job, carry_out, parser, plan_of, require_results
from uap_lightning.attacks.fooling import batches
from uap_lightning.core.storage import write_atomically
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.jobs.stages import find_bank, load_data_and_network
from uap_lightning.perturbations.sampling import draw_pairs
from uap_lightning.rectifiers import DCTCompression
from uap_lightning.results.escape import for_markdown
from uap_lightning.results.rows import norm_label

RATES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)


@dataclass(frozen=True)
class Point:
    """One compression rate on one bank's test perturbations.

    Attributes:
        network, norm: that the bank belongs to.
        compression: share of the coefficients set to zero.
        fooling_ratio: share of test images whose class changes when perturbed and compressed, %.
        acc_clean: of compressed clean images, %, against ground truth where it is known and the
            network's own predictions elsewhere.
        acc_perturbed: of compressed perturbed images, %.
        n_images: test images.
    """

    network: str
    norm: str
    compression: float
    fooling_ratio: float
    acc_clean: float
    acc_perturbed: float
    n_images: int


@torch.no_grad()
def points_of(job: Job, rates: Sequence[float]) -> list[Point]:
    """Measure every rate on the test images under the bank's test perturbations."""
    cfg = settings_of(job, CraftConfig)
    data, network = load_data_and_network(cfg)
    draw = draw_pairs(find_bank(cfg, data, network).test, len(data.test), cfg.seed)
    clean = data.test.prediction
    label = data.test.label if bool((data.test.label >= 0).all()) else clean
    device = network.mean.device
    points = []
    for rate in rates:
        compress = DCTCompression(rate) if rate else torch.nn.Identity()
        said = []
        first = 0
        for images in batches(data.test, data.batch_size, device):
            rho = draw.perturbations[draw.perturbation[first : first + len(images)]].to(device)
            perturbed = (images + rho).clamp(0, 255)
            said.append([network.predict(compress(x)).cpu() for x in (images, perturbed)])
            first += len(images)
        on_clean, on_perturbed = (torch.cat(parts) for parts in zip(*said, strict=True))
        values = (on_perturbed != clean, on_clean == label, on_perturbed == label)
        fooled, right, right_perturbed = (100 * float(v.float().mean()) for v in values)
        points.append(
            Point(network.name, cfg.norm.name, rate, fooled, right, right_perturbed, len(label))
        )
    return points


def markdown(points: Sequence[Point]) -> str:
    """One line a point."""
    lines = [
        "| Network | Norm | Compression | Fooling ratio | Accuracy, clean | Accuracy, perturbed | "
        "Test images |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {for_markdown(p.network)} | {norm_label(p.norm)} | {100 * p.compression:g} % | "
        f"{p.fooling_ratio:.1f} % | {p.acc_clean:.1f} % | {p.acc_perturbed:.1f} % | {p.n_images} |"
        for p in points
    ]
    return "\n".join(lines) + "\n"


def curves(points: Sequence[Point]) -> Figure:
    """Fooling ratio and clean accuracy against the rate, one plot a bank."""
    banks = list(dict.fromkeys((point.network, point.norm) for point in points))
    figure = Figure(figsize=(4.2 * len(banks), 3.4), layout="constrained")
    for axes, bank in zip(figure.subplots(1, len(banks), squeeze=False)[0], banks, strict=True):
        chosen = [point for point in points if (point.network, point.norm) == bank]
        rates = [100 * point.compression for point in chosen]
        axes.plot(rates, [p.fooling_ratio for p in chosen], "o-", label="fooling ratio")
        axes.plot(rates, [p.acc_clean for p in chosen], "s-", label="accuracy, clean")
        axes.plot(rates, [p.acc_perturbed for p in chosen], "^-", label="accuracy, perturbed")
        axes.set_title(f"{bank[0]} {norm_label(bank[1])}", fontsize=10)
        axes.set_xlabel("coefficients set to zero, %")
        axes.set_ylabel("%")
        axes.set_ylim(0, 100)
        axes.legend(fontsize=8)
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Craft the banks, measure, and write the study."""
    chosen = parser(__doc__).parse_intermixed_args(arguments)
    plan = plan_of(chosen, "outputs/experiments")
    jobs = [plan.craft(network, norm) for network in plan.networks for norm in NORMS]
    if not carry_out(jobs, chosen):
        return
    require_results(jobs)
    points = [point for job in jobs for point in points_of(job, RATES)]
    path = plan.folder / "dct_compression"
    write_atomically(path.with_suffix(".md"), markdown(points).encode())
    write_records(points, path.with_suffix(".csv"))
    write_figure(curves(points), path.with_suffix(".png"))


if __name__ == "__main__":
    main()
