"""What a person sees: errors in one sentence, and no escape codes of others."""

import pytest

from uap_lightning.core import terminal
from uap_lightning.core.terminal import fail, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe 😀 日本 [red]a[/red]", "Größe 😀 日本 [red]a[/red]"),
        ("a\x1b[31;1mred\x1b[0m", "ared"),
        ("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", "abc"),
        ("a\x1bPq\x1b\\b\x1b", "ab"),
        ("a\x9b31mb\x00\x08\x7f", "a31mb"),
        ("one\r\ntwo\tthree\u2028four", "one two three four"),
        ("\u202eexe.gpj\u2066", "exe.gpj"),
        ("half \ud83d of a pair", "half \ufffd of a pair"),
    ],
)
def test_what_a_terminal_would_obey_is_left_out(text, shown):
    assert plain(text) == shown
    plain(text).encode()


def test_a_failure_is_one_plain_line(monkeypatch, capsys):
    monkeypatch.setattr(terminal.console, "_file", None)  # `file` would give back a closed one
    with pytest.raises(SystemExit) as exited:
        fail("the file a\x1b[2J\nb [red] is gone")
    assert exited.value.code == 1
    assert capsys.readouterr().err == "error: the file a b [red] is gone\n"
