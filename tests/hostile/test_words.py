"""Words on the command line: help, unknown ones, and values that need quoting."""

import pytest

from tests.hostile.keys import BASE, words

OTHERS = ("hub", "workspace", "perturbations.__main__")
# Whatever stands behind the equals sign, as a shell would hand it over.
AWKWARD = {
    **{"accents": "été", "quote": "a'b", "double": 'a"b', "round": "a(b", "square": "a[b"},
    **{"curly": "a{b", "closing": "a)b", "comma": "a,b", "space": "a b", "newline": "a\nb"},
    **{"dollar": "a$b", "open": "a${b", "backslash": "a\\b", "equals": "a=b", "tab": "a\tb"},
    **{"emoji": "🙂", "bytes": "a\udcffb", "hash": "a#b", "colon": "a:b", "percent": "a%b"},
    **{"tilde": "~a", "at": "a@b", "markup": "[red]a", "escape": "a\x1b[31mb"},
    **{"number": "007", "star": "a*b"},
}
UNKNOWN = {
    **{"key": "nokey=1", "nested": "no.key.at.all=1", "added": "+nokey=1", "option": "--nope"},
    **{"word": "word", "equals": "=", "two": "==", "empty": "", "nothing": "=1", "comma": ","},
    **{
        "deleted": "~nokey",
        "cfg": "--cfg=nope",
        "package": "nogroup@x=1",
        "long": f"{'k' * 300}=1",
    },
    **{"interpolation": "hydra.run.dir=${nope}", "unicode": "ключ=1", "newline": "a\n=1"},
    **{"conf": "--config-name=nope", "folder": "--config-dir=/nope", "bracket": "[=1"},
    **{"escape": "a\x1b[31m=1", "markup": "[red]x[/red]=1", "markup_value": "nokey=[red]"},
}


@pytest.mark.parametrize(
    "words", ["--help", "--cfg job", "--cfg hydra", "--info config", "--version"]
)
@pytest.mark.parametrize("command", BASE)
def test_what_a_command_says_of_itself_takes_no_other_word(command, words, hostile):
    hostile(command, *words.split(), expect="ok")


@pytest.mark.parametrize("command", OTHERS)
def test_help_of_the_others(command, hostile):
    hostile(command, "--help", expect="ok")


def test_the_package_lists_its_commands(hostile):
    said = hostile("__main__", expect="ok").said
    for command in (*BASE, "hub", "workspace", "perturbations"):
        assert f"uap_lightning.{command}" in said


@pytest.mark.parametrize("command", BASE)
def test_the_config_is_printed_resolved(command, hostile, material):
    hostile(command, *words(command, material), "--cfg", "job", "--resolve", expect="ok")


@pytest.mark.parametrize("command", BASE)
@pytest.mark.parametrize("word", UNKNOWN.values(), ids=UNKNOWN)
def test_a_word_that_is_not_known(word, command, hostile, material):
    hostile(command, *words(command, material), word)


@pytest.mark.parametrize("command", OTHERS)
@pytest.mark.parametrize("given", [[], ["nope"], ["--nope"], [""], ["list"], ["push", "a"]])
def test_words_that_the_others_do_not_know(given, command, hostile):
    hostile(command, *given)


@pytest.mark.parametrize(
    "option", ["no-such-group", "nope", "été", "[red]", "n" * 300, "''", "a,b"]
)
@pytest.mark.parametrize("group", ["network", "norm", "data", "attack", "rectifier", "trainer"])
def test_a_choice_that_a_group_does_not_have(group, option, hostile):
    kept = [w for w in BASE["train"] if w.partition("=")[0] in ("network", "data")]
    hostile("train", *(w for w in kept if not w.startswith(group)), f"{group}={option}")


@pytest.mark.parametrize("key", ["images", "output", "defense"])
@pytest.mark.parametrize("name", AWKWARD.values(), ids=AWKWARD)
def test_a_name_that_hydra_reads_otherwise(name, key, hostile, material, tmp_path):
    """It works, or the sentence shows the quoting that does."""
    found = {
        "images": material / "images",
        "defense": material / "outputs" / "run" / "defense",
    }
    if key == "output":
        value = f"{name}.csv"
    else:
        value = name
        (tmp_path / name).symlink_to(found[key])
    done = hostile("predict", *words("predict", material, f"{key}={value}"), expect="either")
    if done.verdict == "sentence" and "without control characters" not in done.said:
        assert f"'{key}=" in done.said or f'"{key}=' in done.said, done.said


@pytest.mark.parametrize("name", AWKWARD.values(), ids=AWKWARD)
def test_a_run_with_an_awkward_name(name, hostile, material):
    hostile("craft", *words("craft", material, f"name={name}"), expect="either")
