"""Values that a key should not have are refused in a sentence that names it, or done as asked."""

import pytest

from tests.hostile.keys import BASE, cases, words


def short(value):
    return value if len(value) < 25 else f"{value[:6]}x{len(value)}"


@pytest.mark.parametrize(
    ("command", "key", "value", "refused"),
    [pytest.param(*case, id=f"{case[0]}-{case[1]}-{short(case[2])}") for case in cases()],
)
def test_a_value_out_of_place(command, key, value, refused, hostile, material):
    quoted = value if value.isascii() else f"'{value}'"
    expect = "sentence" if refused else "either"
    # The sentence names the key, or shows the value where that is a word of its own.
    names = [key.rpartition(".")[2], value.strip("${}")] if refused else []
    hostile(command, *words(command, material, f"{key}={quoted}"), expect=expect, says=names)


@pytest.mark.parametrize("command", BASE)
def test_the_words_that_these_start_from_work(command, hostile, material):
    hostile(command, *words(command, material), expect="ok")
