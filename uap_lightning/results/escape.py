"""Text from outside, such as names in a file that others wrote, where it could do something."""

import re
from typing import TypeVar

from uap_lightning.core.terminal import plain

T = TypeVar("T")

# What begins a formula in a spreadsheet, in either width; white space that it may pass over.
_FORMULA = (*"=+-@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_BLANK = ("\t", "\r", "\n")
_MARKDOWN = str.maketrans(
    {
        **{character: f"\\{character}" for character in "\\`*[]|~!"},
        **{"&": "&amp;", "<": "&lt;", ">": "&gt;"},
    }
)
_TEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "ℓ2": r"$\ell_2$",
    "ℓ∞": r"$\ell_\infty$",
    "ξ": r"$\xi$",
    "→": r"$\to$",
}


def for_markdown(text: str) -> str:
    """The text as Markdown shows it: no tag, image, emphasis, code or table column.

    Nor a link whose text hides where it leads. A bare address, such as ``https://example.org``,
    stays as it is: GitHub makes it a link to what it shows.
    """
    # An underscore within a word, as in most names here, means nothing to Markdown.
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", plain(text).translate(_MARKDOWN))


def for_csv(value: T) -> T | str:
    """The cell; text that a spreadsheet would take for a formula gets a quotation mark before."""
    if not isinstance(value, str):
        return value
    line = plain(value)
    return f"'{line}" if begins_formula(line) else line


def begins_formula(text: str) -> bool:
    """Whether a spreadsheet could compute a cell of this text instead of showing it."""
    return text.startswith(_BLANK) or plain(text).lstrip().startswith(_FORMULA)


def for_latex(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    text = plain(text)
    pieces = []
    # At the start of a table's line these would belong to the line break before them.
    if text.startswith(("[", "*")):
        pieces.append("{}")
    while text:
        found = next((mark for mark in _TEX if text.startswith(mark)), text[0])
        pieces.append(_TEX.get(found, found))
        text = text[len(found) :]
    return "".join(pieces)
