"""Results on the terminal."""

from dataclasses import replace
from pathlib import Path

from tests.results.samples import a_row, result, typed, whole_network
from uap_lightning.results.rows import Result
from uap_lightning.results.screen import show


def named(content, name="run"):
    """A result that was read from a folder of this name."""
    return Result(name, Path(name), content)


def test_the_screen_shows_numbers_and_failed_runs_with_their_reason(capsys):
    show([named(typed(result())), named(typed(result("failed")))])
    out = capsys.readouterr().out
    assert "run: failed: no disk" in out
    assert f"{a_row()['defense_rate']:.1f} %" in out
    for reason in ("install uap-lightning[export]", "no [/x] here", "a :warning: sign"):
        show([named(typed({**result("failed"), "reason": reason}))])
        assert f"run: failed: {reason}" in capsys.readouterr().out
    odd = [result(rows=[a_row("net[/x]")]) for _ in range(5)]
    odd = [named(typed(content), "run[export]") for content in odd]
    show(odd)
    out = capsys.readouterr().out
    assert "run[export]" in out
    assert "net[/x] ℓ∞, Prot-A" in out
    show(odd[:1])
    assert "net[/x]" in capsys.readouterr().out
    show([named(typed(content)) for content in whole_network()])
    out = capsys.readouterr().out
    assert out.count("Prot-A") == 4
    assert "googlenet ℓ∞ → googlenet ℓ2, Prot-B" in out
    show([named(typed(result("failed")))])
    assert "Defense rate" not in capsys.readouterr().out


def test_no_escape_code_reaches_the_terminal(capsys):
    evil = "a\x1b]0;title\x07\x1b[2J\u202eb"
    few = typed(result(rows=[a_row(evil)]))
    many = typed(result(rows=[a_row(evil, protocol=p) for p in "abcde"]))
    timed = replace(many, seconds={evil: 1.0})
    # as a run shows itself, without having been read from a file
    own = replace(few, rows=[replace(few.rows[0], train_network=evil)], seconds={evil: 1.0})
    for shown in (few, timed, own, replace(own, status="failed", reason=evil)):
        show([named(shown, evil)])
        out = capsys.readouterr().out
        assert "ab" in out
        assert not set(out) & {"\x1b", "\x07", "\u202e"}


def test_a_run_is_called_by_its_folder_whatever_its_config_says(capsys):
    nameless = typed({**result("failed"), "config": {}})
    show([named(nameless, "a/b"), named(typed(result("failed")), "c")])
    out = capsys.readouterr().out
    assert "a/b: failed: no disk" in out
    assert "c: failed: no disk" in out
    assert "None" not in out
    assert "run:" not in out
