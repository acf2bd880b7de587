"""Hook of the site: every module of the package in one line, from the head of its docstring."""

import ast
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent / "uap_lightning"
MARK = "<!-- modules of uap_lightning/ -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the modules of ``uap_lightning/``, a section a folder, in the place of the mark."""
    return markdown.replace(MARK, rooms()) if MARK in markdown else markdown


def rooms() -> str:
    """The commands, then each folder: its purpose and a table of its files and theirs."""
    folders = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
    return "\n\n".join(_section(folder) for folder in folders)


def _section(folder: Path) -> str:
    name = folder.relative_to(PACKAGE.parent).as_posix()
    purpose = "The commands." if folder == PACKAGE else _purpose(folder / "__init__.py")
    files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    rows = [f"| `{path.name}` | {_purpose(path)} |" for path in files]
    return "\n".join(
        [f"### `{name}/`", "", purpose, "", "| file | what is in it |", "| --- | --- |", *rows]
    )


def _purpose(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
