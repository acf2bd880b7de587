"""The README's Python example runs as it is printed."""

import re
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_python_example_runs():
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    names: dict[str, object] = {}
    exec(example, names)  # the text of our own README
    assert names["seen"].logits.shape == (1, 1000)
    assert torch.equal(names["seen"].perturbed, names["seen"].score > 0)


def test_the_readme_is_short():
    assert (ROOT / "README.md").read_text().count("\n") < 280


def test_the_table_of_options_names_every_option():
    text = (ROOT / "README.md").read_text()
    for group in ("network", "norm", "data", "attack", "rectifier", "detector"):
        line = re.search(rf"^\| `{group}` \| (.*) \|$", text, re.MULTILINE)[1]
        named = {word.split()[0] for word in re.findall(r"`([^`]+)`", line)}
        there = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
        assert there <= named, there - named
