"""Does P* help? A defence learned from crafted perturbations alone, and from three extensions.

``none``: the crafted ones; ``algorithm_1``: and the synthetic ones of section 4.2; ``vary``: random
relatives of the crafted ones; ``both``: random relatives of crafted and synthetic ones. All four
have the same photographs, batches, steps and test.
"""

from collections.abc import Sequence

from experiments.render import conditions, results_of
from experiments.runs import NORMS, Job, Plan, carry_out, parser, plan_of
from uap_lightning.core.storage import write_atomically
from uap_lightning.results.escape import for_markdown
from uap_lightning.results.rows import gather_rows, norm_label
from uap_lightning.results.tables import LINES, cell, heading
from uap_lightning.results.text import as_csv

_ALONE = "bank.extended=${bank.train}"
KINDS = {
    "none": (_ALONE, "rectifier.training.vary=false"),
    "algorithm_1": ("rectifier.training.vary=false",),
    "vary": (_ALONE, "rectifier.training.vary=true"),
    "both": ("rectifier.training.vary=true",),
}
_SHOWN = (*LINES[:4], ("Floor", "undefended_rate"))


def jobs_of(plan: Plan, norms: Sequence[str], kinds: Sequence[str]) -> dict[Job, str]:
    """The trainings, each with its kind of P*; those that are compared follow one another."""
    return {
        plan.kind(kind, KINDS[kind]).train(network, norm): kind
        for network in plan.networks
        for norm in norms
        for kind in kinds
    }


def markdown(jobs: dict[Job, str]) -> str:
    """A line for each training and protocol.

    Raises:
        SystemExit: a training has no result.
    """
    results = results_of(list(jobs))
    lines = []
    for result, kind in zip(results, jobs.values(), strict=True):
        for row in result.content.rows:
            condition = (
                f"{row.test_network}, {norm_label(row.test_norm)}, Prot-{row.protocol.upper()}"
            )
            cells = [cell(row, key) for _, key in _SHOWN]
            lines.append((for_markdown(condition), kind, row.rectifier, cells))
    # What is compared stands together.
    lines.sort(key=lambda line: (line[0], list(KINDS).index(line[1])))
    brackets = heading(c for *_, cells in lines for c in cells).removeprefix("Metric ")
    names = [f"Tested, {brackets}", "P*", "Rectifier", *(name for name, _ in _SHOWN)]
    table = [f"| {' | '.join(names)} |", "| --- | --- | --- |" + " ---: |" * len(_SHOWN)]
    for condition, kind, rectifier, cells in lines:
        parts = (condition, kind, for_markdown(str(rectifier)), *(c.text() for c in cells))
        table.append(f"| {' | '.join(parts)} |")
    return "\n".join([conditions(results), "", *table, ""])


def main(arguments: list[str] | None = None) -> None:
    """Train the four kinds and write the table."""
    options = parser(__doc__)
    options.add_argument("--norm", action="append", choices=NORMS, help="both without")
    options.add_argument("--kind", action="append", choices=list(KINDS), help="all four without")
    chosen = options.parse_intermixed_args(arguments)
    plan = plan_of(chosen, "outputs/experiments")
    jobs = jobs_of(plan, chosen.norm or NORMS, chosen.kind or list(KINDS))
    if carry_out(list(jobs), chosen):
        path = plan.folder / "extension_ablation.md"
        write_atomically(path, markdown(jobs).encode())
        rows = gather_rows(results_of(list(jobs)), published=[])
        write_atomically(path.with_suffix(".csv"), as_csv(rows, []).encode())


if __name__ == "__main__":
    main()
