"""Hooks of the site: the options of ``conf/`` as text, and docstrings' cross-references as code."""

import re
from pathlib import Path
from typing import Any

CONF = Path(__file__).resolve().parent.parent / "conf"
MARK = "<!-- options of conf/ -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put every group and option of ``conf/`` in the place of the mark."""
    return markdown.replace(MARK, options())


def on_page_content(html: str, **_: Any) -> str:
    """Show a docstring's ``:class:`x``` as code, without the role."""
    return re.sub(r":(?:class|func|meth|mod|data):<code>~?", "<code>", html)


def options() -> str:
    """A section a group: its options with the comment at their head, and their files."""
    folders = sorted({path.parent for path in CONF.rglob("*.yaml")} - {CONF})
    return "\n\n".join(
        [_section("Commands", CONF, "", level=2)]
        + [_section(f"`{_group(f)}`", f, f"{_group(f)}=", level=2) for f in folders]
    )


def _group(folder: Path) -> str:
    return folder.relative_to(CONF).as_posix()


def _section(title: str, folder: Path, prefix: str, level: int) -> str:
    files = sorted(folder.glob("*.yaml"))
    lines = [f"{'#' * level} {title}", ""]
    lines += [f"- `{prefix}{file.stem}` {_comment(file.read_text())}".rstrip() for file in files]
    for file in files:
        # Four spaces: the body of a block that folds.
        body = "\n".join(f"    {line}" for line in file.read_text().splitlines())
        name = file.relative_to(CONF.parent).as_posix()
        lines += ["", f'??? note "{name}"', "    ```yaml", body, "    ```"]
    return "\n".join(lines)


def _comment(text: str) -> str:
    """The comment at the head of a file, without what is meant for Hydra."""
    head = re.match(r"(?:#.*\n)*", text)
    assert head is not None
    kept = [line.lstrip("# ") for line in head[0].splitlines() if "@package" not in line]
    words = " ".join(kept)
    return f"— {words}" if words else ""
