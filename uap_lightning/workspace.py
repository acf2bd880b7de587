"""A W&B workspace for runs of this package: ``python -m uap_lightning.workspace ENTITY PROJECT``.

It shows the metrics of the paper with their floor, a table of all rows, the curves of crafting and
training and the panels, with the runs grouped by sweep. Needs the extra ``dashboard``, and a key.
"""

import argparse

from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import fail
from uap_lightning.jobs.workspace import workspace


def main(arguments: list[str] | None = None) -> None:
    """Create the workspace in a W&B project and print its address."""
    parser = argparse.ArgumentParser(
        prog="python -m uap_lightning.workspace",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("entity", help="W&B user or team")
    parser.add_argument("project", help="W&B project, as logger.wandb.project")
    options = parser.parse_args(arguments)
    try:
        made = workspace(options.entity, options.project)
        print(made.save().url)  # type: ignore[no-untyped-call]
    except Exception as error:  # the package raises whatever its connection raised
        reason = " ".join(str(error).split())
        said = (
            reason if isinstance(error, UapError) else f"W&B refused ({reason}): run wandb login."
        )
        fail(said)


if __name__ == "__main__":
    main()
