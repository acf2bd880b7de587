"""Tables 1-5 for several networks and rectifiers, in pieces that stop by themselves.

With ``--minutes 9`` it ends after nine minutes with the exit status 75, and the same command goes
on from there; when all runs are done it writes the tables. What is begun when the time is up is
done again, so a piece must be long enough for each of these: the cache of the photographs, the
network's predictions on 512 crops, one perturbation, half a minute of training (or a step), the fit
of a detector, ten seconds of a test (or a batch).
"""

import shlex
from collections.abc import Iterable

from experiments import cross_network_tables, norm_tables
from experiments.render import write_tables
from experiments.runs import NORMS, Job, Plan, carry_out, parser, plan_of
from uap_lightning.results import tables
from uap_lightning.results.rows import ReportRow

RECTIFIERS = ("prn", "prn_residual")


def rectifiers_of(given: list[str] | None) -> dict[str, tuple[str, ...]]:
    """The overrides that choose each rectifier, by its name."""
    found = {}
    for text in given or RECTIFIERS:
        words = shlex.split(text)
        name = words[0].removeprefix("rectifier=")
        found[name] = (f"rectifier={name}", *words[1:])
    return found


def jobs_of(plan: Plan, rectifiers: dict[str, tuple[str, ...]]) -> list[Job]:
    """The banks; then each rectifier on every network and norm, tested across both."""
    jobs = [plan.craft(network, norm) for network in plan.networks for norm in NORMS]
    for name, overrides in rectifiers.items():
        kind = plan.kind(name, overrides)
        jobs += [*norm_tables.jobs_of(kind), *cross_network_tables.jobs_of(kind)]
    return list(dict.fromkeys(jobs))


def all_tables(rows: Iterable[ReportRow]) -> list[tables.Table]:
    """Tables 1-3, then 4 and 5, each for each rectifier."""
    rows = list(rows)
    return [*tables.norm_tables(rows), *tables.cross_tables(rows)]


def main(arguments: list[str] | None = None) -> None:
    """Carry out what is missing and write the tables."""
    options = parser(__doc__)
    options.add_argument(
        "--rectifier",
        action="append",
        help="its name, or 'NAME rectifier.training.steps=N ...'; given once for each; "
        f"{' and '.join(RECTIFIERS)} without",
    )
    chosen = options.parse_intermixed_args(arguments)
    plan = plan_of(chosen, "outputs/experiments")
    jobs = jobs_of(plan, rectifiers_of(chosen.rectifier))
    if carry_out(jobs, chosen):
        tested = [job for job in jobs if job.verb != "craft"]
        write_tables(tested, all_tables, plan.folder, "tables_1_to_5")


if __name__ == "__main__":
    main()
