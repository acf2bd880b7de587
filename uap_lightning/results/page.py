"""The report as one HTML page that needs nothing else: no script, no file, no network."""

from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from uap_lightning.results.charts import bar_charts, unseen_matrices
from uap_lightning.results.pictures import data_uri, template
from uap_lightning.results.rows import ReportRow, Result
from uap_lightning.results.tables import cell, cross_tables, norm_tables

PANEL = "panel.png"
_MAX_PANEL = 32 * 2**20  # bytes: ten times what a training draws


def render(results: list[Result], rows: list[ReportRow]) -> str:
    """The page.

    Args:
        results: all runs, those that failed too.
        rows: what :func:`~uap_lightning.results.rows.gather_rows` made of them.
    """
    return template("page.html.j2").render(
        runs=[_run(result) for result in results],
        failed=[result for result in results if result.content.status != "ok"],
        charts=bar_charts(rows),
        tables=norm_tables(rows),
        cross=cross_tables(rows),
        matrices=unseen_matrices(rows),
        cell=cell,
        compared=any(row.paper for row in rows),
    )


def _run(result: Result) -> dict[str, Any]:
    content = result.content
    facts: dict[str, str | int | None] = {"commit": content.commit, "seed": content.seed}
    facts |= {f"{name} digest": digest for name, digest in content.digests.items()}
    facts |= {f"{stage}, seconds": f"{s:.1f}" for stage, s in content.seconds.items()}
    return {
        "name": result.name,
        "status": content.status,
        "facts": {name: value for name, value in facts.items() if value is not None},
        "versions": content.versions,
        "config": yaml.safe_dump(content.config, sort_keys=False, allow_unicode=True),
        "panel": _embedded(result.folder / PANEL),
    }


def _embedded(path: Path) -> str | None:
    """An image as a data URI, in a twentieth of the bytes of its PNG.

    None where there is none, and where it is no PNG, too large or cannot be read.
    """
    try:
        # A pipe would never end, and other formats start other programs.
        if not path.is_file() or path.stat().st_size > _MAX_PANEL:
            return None
        with Image.open(path, formats=["PNG"]) as image:
            return data_uri(image)
    except Exception:  # whatever a damaged file makes Pillow raise
        return None
