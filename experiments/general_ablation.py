"""What makes a rectifier general? Seven trainings, each different in one thing from another.

``own``          the perturbations crafted for the classifier, and synthetic ones
``procedural``   and patterns that no network was asked about (bank.procedural)
``crafted``      and those of other networks and attacks, in the banks below ``--crafted``
``rescaled``     and all but the procedural ones at other scales as well (bank.rescaled)
``published``    and those of other people, in the banks below ``--published``
``one strength`` as ``rescaled``, but kept in the run's own ball (rectifier.training.strengths=null)
``pixels``       as ``rescaled``, but the loss compares pixels alone, no early layers

All have the same rectifier, number of steps and photographs, and no detector, so that every image
is rectified. They are measured by experiments.unseen_attacks in one run. Takes the settings of
``train``, which name the classifier, the photographs and its bank; those of ``data`` are given one
by one, because a measurement has no experiment. The results are written where those of
unseen_attacks are, as ``general_ablation``.

python -m experiments.general_ablation --crafted BANKS --published PUBLISHED --patterns UNSEEN \
    --photographs 300 --strength 1,2.5 --network network=efficientnet_lite0 experiment=general \
    rectifier=prn_general_medium rectifier.training.steps=1000 bank.path=BANK \
    data=imagenet_sample data.root=FOLDER data.test_root=FOLDER data.resize=146 data.crop=128
"""

import shlex
import subprocess
import sys
import time
from pathlib import Path

from experiments.runs import (
    UNFINISHED,
    Job,
    Plan,
    carry_out,
    parser,
    plan_of,
    require_results,
)
from uap_lightning.jobs.schema import FITS

_NO_DETECTOR = ("detector=none", "detector.false_alarms=null", "detector.harmless=0")
# What trainings have and a measurement does not.
_OF_TRAININGS = ("experiment=", "bank.", "rectifier", "detector")


def variants(crafted: str, published: str) -> dict[str, tuple[str, ...]]:
    """The overrides of each training by its name."""
    one_scale, scales = "bank.rescaled=0", "bank.rescaled=1"
    all_crafted = f"bank.further=['{crafted}']"
    both = f"bank.further=['{crafted}','{published}']"
    loss = "rectifier.training.loss"
    colours = "rectifier.training.recolour=0"
    layers = (f"{loss}.features=0.8", f"{loss}.reconstruction=0.2", colours)
    pixels = (f"{loss}.features=0", f"{loss}.reconstruction=1", colours)
    return {
        "own": ("bank.further=[]", "bank.procedural=0", one_scale, *layers),
        "procedural": ("bank.further=[]", one_scale, *layers),
        "crafted": (all_crafted, one_scale, *layers),
        "rescaled": (all_crafted, scales, *layers),
        "published": (both, scales, *layers),
        "one strength": (all_crafted, scales, "rectifier.training.strengths=null", *layers),
        "pixels": (all_crafted, scales, *pixels),
    }


def jobs_of(plan: Plan, named: dict[str, tuple[str, ...]]) -> list[Job]:
    """A training of the first network for each variant, each of its own name."""
    network = next(iter(plan.networks))
    return [
        plan.kind(
            name.replace(" ", "-"), (*changed, f"rectifier.name='{name}'", *_NO_DETECTOR)
        ).train(network, "linf")
        for name, changed in named.items()
    ]


def measurement(jobs: list[Job], plan: Plan, options: list[str]) -> list[str]:
    """The command of experiments.unseen_attacks for all of them, without the interpreter."""
    defenses = [word for job in jobs for word in ("--defense", str(job.folder / "defense"))]
    settings = [word for word in plan.common if not word.startswith(_OF_TRAININGS)]
    network = next(iter(plan.networks.values()))
    words = [*defenses, *options, *settings, *network, "norm=linf", "name=general_ablation"]
    return ["-m", "experiments.unseen_attacks", *words]


def main(arguments: list[str] | None = None) -> None:
    """Train the variants, and measure them; its ``results.json`` is that of unseen_attacks."""
    options = parser(__doc__)
    options.add_argument("--crafted", required=True, help="folder of banks")
    options.add_argument("--published", required=True, help="another one")
    options.add_argument("--patterns", required=True, help="banks that none is trained on")
    options.add_argument("--fit", default="crop", choices=FITS, help="what larger ones become")
    options.add_argument("--photographs", type=int, default=300, help="tested on")
    options.add_argument("--strength", default="1,2.5", help="factors of the l_inf ones")
    chosen = options.parse_intermixed_args(arguments)
    if chosen.smoke or len(chosen.network or []) != 1:
        raise SystemExit(
            f"error: --smoke is {chosen.smoke} and --network is given "
            f"{len(chosen.network or [])} times: expected one real network, because the tiny one "
            "has too few photographs for a measurement."
        )
    for folder in (chosen.crafted, chosen.published, chosen.patterns):
        if not Path(folder).is_dir():
            raise SystemExit(f"error: {folder} is no folder: expected one that holds banks.")
    started = time.monotonic()
    plan = plan_of(chosen, "outputs/experiments")
    jobs = jobs_of(plan, variants(chosen.crafted, chosen.published))
    names = ("patterns", "fit", "photographs", "strength")
    told = [word for name in names for word in (f"--{name}", str(getattr(chosen, name)))]
    words = measurement(jobs, plan, told)
    if not carry_out(jobs, chosen):
        print(shlex.join(["python", *words]))
        return
    require_results(jobs)
    if chosen.table_only:
        return
    left = None if chosen.minutes is None else 60 * chosen.minutes + started - time.monotonic()
    try:
        status = subprocess.run([sys.executable, *words], check=False, timeout=left).returncode
    except subprocess.TimeoutExpired:
        raise SystemExit(UNFINISHED) from None
    if status:
        raise SystemExit(f"{shlex.join(['python', *words])} ended with status {status}.")


if __name__ == "__main__":
    main()
