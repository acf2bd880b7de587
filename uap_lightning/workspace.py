"""A W&B workspace for runs of this package: ``python -m uap_lightning.workspace ENTITY PROJECT``.

It shows the metrics of the paper with their floor, a table of all rows, the curves of crafting and
training and the panels, with the runs grouped by sweep. Needs the extra ``dashboard``, and a key.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from uap_lightning.errors import UapError
from uap_lightning.metrics import WITH_INTERVAL
from uap_lightning.progress import console

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

PROTOCOLS = ("a", "b")


def workspace(entity: str, project: str) -> "Workspace":
    """The workspace's specification; ``save()`` sends it.

    Raises:
        UapError: the extra ``dashboard`` is not installed.
    """
    try:
        import wandb_workspaces.workspaces as ws
        from wandb_workspaces.reports.v2 import interface as panels
    except ImportError as error:
        raise UapError(
            f"a workspace needs wandb-workspaces ({error}): install uap-lightning[dashboard]."
        ) from error
    results: list[Any] = [
        panels.BarPlot(
            title=f"{metric.replace('_', ' ')}, Prot-{protocol.upper()} (percent)",
            metrics=[f"test/{protocol}/{metric}"],
        )
        for protocol in PROTOCOLS
        for metric in WITH_INTERVAL
    ]
    table = panels.WeavePanelSummaryTable(table_name="test/rows")
    crafting: list[Any] = [
        panels.LinePlot(title=title, x="trainer/global_step", y=[f"craft/{name}"])
        for title, name in (
            ("Fooling ratio on crafting images", "fooling_ratio"),
            ("Fooling ratio on unseen images", "fooling_ratio_unseen"),
            ("Largest cosine to another", "cosine"),
            ("Seconds", "seconds"),
        )
    ]
    loss = panels.LinePlot(title="Training loss", x="trainer/global_step", y=["train/loss"])
    shown = panels.MediaBrowser(title="Test photographs", media_keys=["test/panel"])
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Defence against universal adversarial perturbations",
        sections=[
            ws.Section("Metrics", panels=results, is_open=True),
            ws.Section("Rows", panels=[table], is_open=True),
            ws.Section("Crafting, a step for each perturbation", panels=crafting, is_open=True),
            ws.Section("Training", panels=[loss], is_open=True),
            ws.Section("Panels", panels=[shown], is_open=True),
        ],
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group")]),
    )


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
        console.print(f"error: {said}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
