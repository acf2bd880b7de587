"""Tables 1-3: each network defended against the norm trained on, and against the other one."""

from experiments.render import write_tables
from experiments.runs import NORMS, Job, Plan, carry_out, parser, plan_of
from uap_lightning.results.tables import norm_tables


def jobs_of(plan: Plan) -> list[Job]:
    """Every network trained on every norm; then every defence tested on the other norm."""
    trained = {(n, norm): plan.train(n, norm) for n in plan.networks for norm in NORMS}
    crossed = [
        plan.evaluate(job, network, other)
        for (network, norm), job in trained.items()
        for other in NORMS
        if other != norm
    ]
    return [*trained.values(), *crossed]


def main(arguments: list[str] | None = None) -> None:
    """Carry out the runs and write the tables."""
    chosen = parser(__doc__).parse_intermixed_args(arguments)
    plan = plan_of(chosen, "outputs/experiments")
    jobs = jobs_of(plan)
    if carry_out(jobs, chosen):
        write_tables(jobs, norm_tables, plan.folder, "tables_1_to_3")


if __name__ == "__main__":
    main()
