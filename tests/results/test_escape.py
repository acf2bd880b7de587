"""Text from outside."""

import re
from html import unescape

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from uap_lightning.core.terminal import plain
from uap_lightning.results.escape import for_csv, for_latex, for_markdown


@given(st.text(max_size=20))
def test_no_special_character_reaches_latex(text):
    left = re.sub(
        r"\\textbackslash\{\}|\\text(tilde|asciitilde|asciicircum)\{\}", "", for_latex(text)
    )
    left = re.sub(r"^\{\}(?=[\[*])", "", left)
    left = re.sub(r"\$\\(ell_2|ell_\\infty|xi|to)\$", "", left)
    assert not re.search(r"(?<!\\)[&%$#_{}~^]|\\(?![&%$#_{}])", left)


@given(st.text(max_size=20))
@example("_0_")
@example("__x__ a_b")
def test_markdown_gives_the_text_back(text):
    html = MarkdownIt().renderInline(for_markdown(text))
    assert "<" not in html
    assert unescape(html).split() == plain(text).split()


@given(st.text(max_size=20))
def test_no_text_begins_a_formula_and_numbers_stay(text):
    assert not re.match(r"\s*[=+@\t\r\uff1d\uff0b\uff0d\uff20-]", for_csv(text))
    assert for_csv(-3.5) == -3.5
    assert for_csv(None) is None
    assert for_csv("a-b=c") == "a-b=c"
