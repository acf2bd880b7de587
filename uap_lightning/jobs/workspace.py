"""A W&B workspace for the runs of this package, as code."""

from typing import TYPE_CHECKING, Any

from uap_lightning.core.errors import UapError
from uap_lightning.results.metrics import WITH_INTERVAL

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
    training: list[Any] = [
        panels.LinePlot(title=title, x="trainer/global_step", y=[*keys])
        for title, keys in (
            ("Loss", ["train/loss", "val/loss"]),
            ("On validation photographs", ["val/restoration", "val/clean_kept"]),
        )
    ]
    shown = panels.MediaBrowser(title="Test photographs", media_keys=["test/panel"])
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Defence against universal adversarial perturbations",
        sections=[
            ws.Section("Metrics", panels=results, is_open=True),
            ws.Section("Rows", panels=[table], is_open=True),
            ws.Section("Crafting, a step for each perturbation", panels=crafting, is_open=True),
            ws.Section("Training", panels=training, is_open=True),
            ws.Section("Panels", panels=[shown], is_open=True),
        ],
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group")]),
    )
