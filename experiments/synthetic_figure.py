"""Figure 3: synthetic perturbations beside the crafted ones that are nearest to them.

The paper gives dot products of unit vectors of 0.71 (l2) and 0.83 (linf) on CaffeNet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.configs import settings_of
from experiments.render import write_figure, write_records
from experiments.runs import NORMS, Job, carry_out, parser, plan_of, require_results
from uap_lightning.attacks.fooling import fooling_ratio
from uap_lightning.core.storage import write_atomically
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.jobs.stages import find_bank, load_data_and_network
from uap_lightning.perturbations.synthetic import nearest, synthesise
from uap_lightning.results.escape import for_markdown
from uap_lightning.results.rows import norm_label

PUBLISHED = {"l2": 0.71, "linf": 0.83}


@dataclass(frozen=True)
class Match:
    """A synthetic perturbation and its nearest crafted one.

    Attributes:
        network, norm: that the bank belongs to.
        nearest: number of the crafted perturbation with the largest dot product.
        dot_product: of the two as unit vectors.
        fooling_ratio: of the synthetic one on the test images, 0-1.
        fooling_ratio_crafted: of the crafted one on the same images.
        l2, linf: norms of the synthetic one, pixel units.
    """

    network: str
    norm: str
    nearest: int
    dot_product: float
    fooling_ratio: float
    fooling_ratio_crafted: float
    l2: float
    linf: float


def matches_of(job: Job, count: int) -> tuple[list[Match], Tensor]:
    """Match synthetic perturbations with crafted ones.

    Args:
        job: a finished crafting.
        count: how many to synthesise.

    Returns:
        the matches, and the pictures of the first: synthetic and nearest, 2 x 3 x H x W.
    """
    cfg = settings_of(job, CraftConfig)
    data, network = load_data_and_network(cfg)
    crafted = find_bank(cfg, data, network).train
    synthetic = synthesise(crafted, cfg.ball(), count, cfg.seed)
    numbers, dots = nearest(synthetic, crafted)
    clean = data.test.prediction
    ratios = [fooling_ratio(network, data.test, clean, rho) for rho in synthetic]
    own = {n: fooling_ratio(network, data.test, clean, crafted[n]) for n in set(numbers.tolist())}
    matches = [
        Match(
            network=network.name,
            norm=cfg.norm.name,
            nearest=n,
            dot_product=dot,
            fooling_ratio=ratio,
            fooling_ratio_crafted=own[n],
            l2=float(rho.norm()),
            linf=float(rho.abs().max()),
        )
        for n, dot, ratio, rho in zip(
            numbers.tolist(), dots.tolist(), ratios, synthetic, strict=True
        )
    ]
    return matches, torch.stack([synthetic[0], crafted[int(numbers[0])]])


def markdown(matches: Sequence[Match]) -> str:
    """One line for each network and norm: medians, beside the paper's number."""
    lines = [
        "| Network | Norm | Dot product with the nearest, median | The paper's | Fooling ratio, "
        "synthetic | Fooling ratio, crafted | Synthetic perturbations |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for network, norm in dict.fromkeys((match.network, match.norm) for match in matches):
        chosen = [m for m in matches if (m.network, m.norm) == (network, norm)]
        dots, ratios, own = (
            torch.tensor([getattr(match, key) for match in chosen]).median().item()
            for key in ("dot_product", "fooling_ratio", "fooling_ratio_crafted")
        )
        paper = f"{PUBLISHED[norm]:.2f} (CaffeNet)"
        lines.append(
            f"| {for_markdown(network)} | {norm_label(norm)} | {dots:.2f} | {paper} | "
            f"{100 * ratios:.1f} % | {100 * own:.1f} % | {len(chosen)} |"
        )
    return "\n".join(lines) + "\n"


def picture(pairs: Sequence[tuple[Match, Tensor]]) -> Figure:
    """One line a bank: a synthetic perturbation, and the nearest crafted one."""
    figure = Figure(figsize=(6.4, 3.3 * len(pairs)), layout="constrained")
    axes = figure.subplots(len(pairs), 2, squeeze=False)
    for line, (match, tensors) in zip(axes, pairs, strict=True):
        titles = (
            f"{match.network} {norm_label(match.norm)}: synthetic",
            f"nearest crafted, dot product {match.dot_product:.2f}",
        )
        for place, rho, title in zip(line, tensors, titles, strict=True):
            shown = 0.5 + 0.5 * rho / rho.abs().quantile(0.99)
            place.imshow(shown.clamp(0, 1).permute(1, 2, 0).numpy())
            place.set_title(title, fontsize=9)
            place.axis("off")
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Craft the banks, match, and write the figure and its numbers."""
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=20, help="synthetic perturbations a bank")
    chosen = options.parse_intermixed_args(arguments)
    plan = plan_of(chosen, "outputs/experiments")
    jobs = [plan.craft(network, norm) for network in plan.networks for norm in NORMS]
    if not carry_out(jobs, chosen):
        return
    require_results(jobs)
    found = [matches_of(job, chosen.count) for job in jobs]
    matches = [match for several, _ in found for match in several]
    write_atomically(plan.folder / "figure_3.md", markdown(matches).encode())
    write_records(matches, plan.folder / "figure_3.csv")
    pairs = [(several[0], tensors) for several, tensors in found]
    write_figure(picture(pairs), plan.folder / "figure_3.png")


if __name__ == "__main__":
    main()
