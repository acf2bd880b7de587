"""Tables 4 and 5: each network defended by what was trained on every other network.

The paper's left-most column is the network under test, whose own perturbations are tested; its
second row is the network that the defence was trained on.
"""

from experiments.render import write_tables
from experiments.runs import NORMS, Job, Plan, carry_out, parser, plan_of
from uap_lightning.results.tables import cross_tables


def jobs_of(plan: Plan) -> list[Job]:
    """Every network trained on every norm; then every defence tested on the other networks."""
    trained = {(n, norm): plan.train(n, norm) for n in plan.networks for norm in NORMS}
    crossed = [
        plan.evaluate(job, network, norm)
        for (trained_on, norm), job in trained.items()
        for network in plan.networks
        if network != trained_on
    ]
    return [*trained.values(), *crossed]


def main(arguments: list[str] | None = None) -> None:
    """Carry out the runs and write the tables."""
    chosen = parser(__doc__).parse_intermixed_args(arguments)
    plan = plan_of(chosen, "outputs/experiments")
    jobs = jobs_of(plan)
    if carry_out(jobs, chosen):
        write_tables(jobs, cross_tables, plan.folder, "tables_4_and_5")


if __name__ == "__main__":
    main()
