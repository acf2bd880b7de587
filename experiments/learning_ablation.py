"""What makes the network of section 4.1 learn? Changes from the letter of the paper to ``prn``.

Every training has the same number of steps and images, and the same precision. One that ends at
chance is stopped by the package itself; the table says so. ``--seeds`` repeats each with other
weights, photographs and perturbations.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from experiments.render import conditions
from experiments.runs import Job, Plan, carry_out, parser, plan_of, require_results
from uap_lightning.core.storage import write_atomically, write_json
from uap_lightning.results.escape import for_markdown
from uap_lightning.results.file import FILE, RunResult, read_results
from uap_lightning.results.row import Row
from uap_lightning.results.rows import Result
from uap_lightning.training.watching import STOPPED

_REPLACED = ("rectifier.model.skip=false", "rectifier.model.output_scale=127.5")
_EQUATION_2 = (
    "rectifier.training.loss.cross_entropy=1",
    "rectifier.training.loss.reconstruction=0",
)
VARIANTS: dict[str, tuple[str, ...]] = {
    "as printed": ("rectifier=prn_printed",),
    "the authors' code": ("rectifier=prn_authors",),
    "as printed, at rate 0.001": (
        "rectifier=prn_printed",
        "rectifier.training.optimizer.lr=0.001",
    ),
    "as printed, but reconstruction (prn's rate)": ("rectifier=prn", *_REPLACED),
    "as printed, but both losses (prn's rate)": ("rectifier=prn", *_REPLACED, _EQUATION_2[0]),
    "path, equation 2": ("rectifier=prn", *_EQUATION_2),
    "path, both losses": ("rectifier=prn", _EQUATION_2[0]),
    "path, reconstruction (prn)": ("rectifier=prn",),
    "prn, output times 127.5": ("rectifier=prn", "rectifier.model.output_scale=127.5"),
    "prn, at rate 0.01": ("rectifier=prn", "rectifier.training.optimizer.lr=0.01"),
    "prn, without warm-up": ("rectifier=prn", "rectifier.training.scheduler=null"),
    "prn, gradients not clipped": ("rectifier=prn", "rectifier.training.gradient_clip=null"),
}


@dataclass(frozen=True)
class Line:
    """A training of one variant; rates in percent.

    Attributes:
        variant: what was changed.
        seed: of everything random.
        stopped: why it ended early; None where it did not.
        rectified: accuracy on rectified perturbed images, relative to clean ones.
        untouched: the same without the rectifier.
        restoration: PRN-restoration.
        defense_rate: with the detector.
        floor: undefended rate.
        ci95: of the defense rate, over photographs.
    """

    variant: str
    seed: int
    stopped: str | None = None
    rectified: float | None = None
    untouched: float | None = None
    restoration: float | None = None
    defense_rate: float | None = None
    floor: float | None = None
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Learning:
    """``learning_ablation.json``.

    Attributes:
        steps: of each training.
        batch: images a step.
        lines: one for each training.
    """

    steps: int
    batch: int
    lines: list[Line]


def jobs_of(
    plan: Plan, norm: str, seeds: int, size: Sequence[str], chosen: Sequence[str]
) -> dict[Job, tuple[str, int]]:
    """The trainings of the first network, each with its variant and seed."""
    network = next(iter(plan.networks))
    return {
        plan.kind(f"{number}-{seed}", (*changed, *size, f"seed={seed}")).train(network, norm): (
            variant,
            seed,
        )
        for seed in range(seeds)
        for number, (variant, changed) in enumerate(VARIANTS.items())
        if variant in chosen
    }


def line(result: RunResult, variant: str, seed: int) -> Line:
    """What a training came to, under protocol A.

    Raises:
        SystemExit: it failed for a reason that says nothing of what it learns.
    """
    if result.status != "ok":
        if not result.why.startswith(STOPPED):
            raise SystemExit(
                f"error: the training of {variant}, seed {seed}, failed ({result.why}): expected "
                "it to end, or to be stopped for what it learns; remove its folder, and repeat."
            )
        return Line(variant, seed, stopped=result.why)
    [row] = [row for row in result.rows if row.protocol == "a"]
    return Line(
        variant,
        seed,
        None,
        _of_clean(row, row.acc_rectified_perturbed),
        _of_clean(row, row.acc_perturbed),
        row.prn_restoration,
        row.defense_rate,
        row.undefended_rate,
        row.ci95.get("defense_rate"),
    )


def _of_clean(row: Row, accuracy: float | None) -> float | None:
    return 100 * accuracy / row.acc_clean if row.acc_clean and accuracy is not None else None


def markdown(lines: Sequence[Line]) -> str:
    """A line for each variant; several seeds as their mean, and the lowest and the highest."""
    head = ["What was trained", "perturbed images: untouched", "rectified", "PRN-restoration"]
    head += ["Defense rate", "Undefended (floor)"]
    table = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for variant in dict.fromkeys(one.variant for one in lines):
        own = [one for one in lines if one.variant == variant]
        ended = [one for one in own if one.stopped is None]
        cells = [for_markdown(variant)]
        for key in ("untouched", "rectified", "restoration", "defense_rate", "floor"):
            cells.append(_spread([getattr(one, key) for one in ended]))
        if stopped := len(own) - len(ended):
            # The package stops what explodes, never falls, or leaves the classifier at chance.
            cells[2] = f"{cells[2]} stopped, {stopped} of {len(own)}".strip()
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{sum(known) / len(known):.1f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.1f} to {max(known):.1f})"


def main(arguments: list[str] | None = None) -> None:
    """Train the variants and write ``learning_ablation.md`` and ``.json``."""
    options = parser(__doc__)
    options.add_argument("--norm", default="linf", choices=("l2", "linf"))
    options.add_argument("--variant", action="append", choices=list(VARIANTS), help="all without")
    options.add_argument("--seeds", type=int, default=3, help="repetitions")
    options.add_argument("--steps", type=int, default=300, help="of each training")
    options.add_argument("--batch", type=int, default=8, help="images a step")
    chosen = options.parse_intermixed_args(arguments)
    plan = plan_of(chosen, "outputs/experiments")
    training = "rectifier.training"
    size = [f"{training}.epochs=-1", f"{training}.steps={chosen.steps}"]
    size += [f"{training}.batch_size={chosen.batch}", f"{training}.precision=auto"]
    jobs = jobs_of(plan, chosen.norm, chosen.seeds, size, chosen.variant or list(VARIANTS))
    if not carry_out(list(jobs), chosen, may_fail=True):
        return
    require_results(jobs, may_fail=True)
    results = {job: read_results(job.folder / FILE) for job in jobs}
    lines = [line(results[job], *named) for job, named in jobs.items()]
    ended = [Result(j.folder.name, j.folder, r) for j, r in results.items() if r.status == "ok"]
    text = f"{conditions(ended)}\n\n{markdown(lines)}\n"
    path = plan.folder / "learning_ablation.md"
    write_atomically(path, text.encode())
    write_json(path.with_suffix(".json"), asdict(Learning(chosen.steps, chosen.batch, lines)))


if __name__ == "__main__":
    main()
