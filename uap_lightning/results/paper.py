"""The paper's published numbers, to stand beside what was measured."""

from pathlib import Path

import yaml

from uap_lightning.core.errors import UapError
from uap_lightning.results.rows import Row

FILE = Path(__file__).with_name("paper.yaml")


def read_paper(path: str | None) -> list[Row]:
    """The published rows: of the file given, of the checkout, or none.

    Raises:
        UapError: the file is missing, not YAML, or has no list of rows.
    """
    if path is None and not FILE.is_file():
        return []
    file = FILE if path is None else Path(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UapError(
            f"paper is {file}, which cannot be read ({error.strerror}): give a file of published "
            "numbers, or leave paper=null."
        ) from error
    except (yaml.YAMLError, UnicodeError) as error:
        problem = " ".join(str(error).split())
        raise UapError(f"{file} is not valid YAML ({problem}): correct or restore it.") from error
    rows = content.get("rows") if isinstance(content, dict) else None
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise UapError(f"{file} has no list of rows: expected rows: with one entry a condition.")
    return rows
