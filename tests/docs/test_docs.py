"""The site builds strictly and loads nothing; its examples run and its sentences are the code's."""

import ast
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tests.tiny import QUICK_TRAIN, run
from uap_lightning.jobs.config import find_conf, register_schemas, typed
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.results.file import read_results

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples"
CONF = Path(find_conf())
MINE = ("attack=best_stripes", "rectifier=learned_blur", "detector=energy")


class Loaded(HTMLParser):
    """Addresses that a page makes a browser fetch."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "link" and found.get("rel") in ("canonical", "next", "prev"):
            return
        if tag in ("script", "link", "img", "iframe", "source"):
            self.addresses += [found[key] for key in ("src", "href") if found.get(key)]


def test_the_site_builds_strictly_loads_nothing_and_names_every_option(tmp_path):
    pytest.importorskip("mkdocs")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert any(address.endswith(".css") for address in loaded.addresses)
        outside = [a for a in loaded.addresses if re.match(r"(https?:)?//", a)]
        assert not outside, (page, outside)
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", style.read_text()), style
    configuration = (tmp_path / "site" / "configuration.html").read_text()
    for path in CONF.rglob("*.yaml"):
        group = path.parent.relative_to(CONF).as_posix()
        said = path.stem if group == "." else f"{group}={path.stem}"
        assert f"<code>{said}</code>" in configuration
    # Every module of the package has its line.
    layout = (tmp_path / "site" / "layout.html").read_text()
    for path in (ROOT / "uap_lightning").rglob("*.py"):
        if path.name != "__init__.py":
            folder = path.parent.relative_to(ROOT).as_posix()
            section = re.split(f"<h3[^>]*><code>{folder}/</code>", layout)[1].partition("<h3")[0]
            assert f"<code>{path.name}</code>" in section, path
    # What is included is there, and not the line that includes it.
    attack = (tmp_path / "site" / "add-attack.html").read_text()
    assert "plane wave" in attack
    assert "--8" not in attack
    # Docstrings are rendered with their arguments.
    reference = (tmp_path / "site" / "reference.html").read_text()
    assert "uap_lightning.guard.guard.Guard.load" in reference
    assert ":class:" not in reference


def test_the_worked_examples_run_and_their_defence_loads_where_it_is_trusted(tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(EXAMPLES, mine)
    overrides = (*QUICK_TRAIN, *MINE, "bank.min_fooling_ratio=0", "attack.tries=4")
    done = run("train", "--config-dir", "conf", *overrides, cwd=mine)
    assert done.returncode == 0, done.stdout + done.stderr
    config = read_results(mine / "outputs" / "run" / "results.json").config
    assert config["attack"]["name"] == "best_stripes"
    assert config["rectifier"]["model"]["_target_"] == "learned_blur.LearnedBlur"

    # In a process of its own, as a user's is: nothing has imported the classes there.
    refused, loaded = using(mine, trust=""), using(mine, trust="learned_blur, energy")
    assert refused.returncode != 0
    assert re.search(r"UapError: .*learned_blur.*UAP_TRUST", refused.stderr), refused.stderr
    assert loaded.returncode == 0, loaded.stderr


def using(folder, trust):
    """What becomes of ``USE`` in ``folder`` where those modules are trusted."""
    paths = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", USE],
        cwd=folder,
        env={**os.environ, "UAP_TRUST": trust, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


USE = """
import torch
from uap_lightning import Guard
from uap_lightning.networks.tiny import tiny

guard = Guard.load("outputs/run/defense", tiny())
weight = guard.rectifier.weight
assert weight.shape == (5, 5)
images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
rectified = guard.inspect(images).rectified
# It was trained: it is no longer the identity.
assert not torch.equal(rectified, images.float())
# The filter as an explicit sum, at a place inside.
patch = images[0, 1, 8:13, 20:25].float()
assert torch.allclose(rectified[0, 1, 10, 22], (patch * weight).sum(), rtol=1e-4)
"""


def test_the_worked_examples_compose_by_the_search_path_too(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    register_schemas()
    searched = f"hydra.searchpath=[file://{EXAMPLES / 'conf'}]"
    options = [f"{p.parent.name}={p.stem}" for p in (EXAMPLES / "conf").rglob("*.yaml")]
    assert sorted(options) == sorted(MINE)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", [searched, *QUICK_TRAIN, *MINE, "paths.output_dir=out"])
        typed(composed, TrainConfig)


def sentences():
    """Every error that the code raises as a pattern: what is filled in may be anything."""
    for file in (ROOT / "uap_lightning").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            name = getattr(getattr(node, "func", None), "id", None)
            if name in ("UapError", "CorruptImage") and node.args:
                text = node.args[0]
                if isinstance(text, ast.Constant):
                    yield re.escape(text.value)
                elif isinstance(text, ast.JoinedStr):
                    yield "".join(
                        re.escape(part.value) if isinstance(part, ast.Constant) else ".+"
                        for part in text.values
                    )


def test_every_error_that_is_quoted_is_one_that_the_code_raises():
    quoted = re.findall(r"^error: (.+)$", (ROOT / "docs" / "faq.md").read_text(), re.MULTILINE)
    patterns = [pattern for pattern in sentences() if re.search(r"\w{4}", pattern)]
    assert len(quoted) > 15
    for sentence in quoted:
        assert any(re.fullmatch(pattern, sentence) for pattern in patterns), sentence


PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
# What the changelog says of the past need not exist any more.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]


def test_the_layers_that_are_drawn_are_those_that_are_checked():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    drawn = re.search(r"```text\n(.*?)```", (ROOT / "docs" / "layout.md").read_text(), re.DOTALL)[1]
    assert drawn.splitlines() == layers
    # The same rooms in the same order, each with its purpose.
    short = re.search(r"```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[1]
    rooms = [re.split(r"\s{2,}", line)[0] for line in short.splitlines()]
    assert rooms[0].removeprefix("commands: ").split() == layers[0].split(" | ")
    assert rooms[1:] == layers[1:]


@pytest.mark.parametrize("page", PRESENT, ids=lambda page: page.name)
def test_commands_modules_files_and_options_are_ones_that_there_are(page):
    text = page.read_text()
    for package, module in re.findall(r"python -m (uap_lightning|experiments)\.(\w+)", text):
        place = ROOT / package / module
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module
    for named in re.findall(r"(?:from|import|:::|`|#)\s*(uap_lightning(?:\.\w+)+)", text):
        pkgutil.resolve_name(named)
    for named in re.findall(r"(?:uap_lightning|conf|docs|experiments)/[\w/.]*\w\.\w+", text):
        if named not in OF_THE_READER:
            assert (ROOT / named).exists(), named
    without_python = re.sub(r"```python\n.*?```", "", text, flags=re.DOTALL)
    for group, option in re.findall(
        r"(?<![\w.@])([a-z]+)=([a-z][a-z0-9_]*)\b(?![./])", without_python
    ):
        if (CONF / group).is_dir() and (group, option) not in OWN:
            assert (CONF / group / f"{option}.yaml").is_file(), f"{group}={option}"


# Files and options of the reader's own, in the examples.
OF_THE_READER = {
    "conf/network/my_network.yaml",
    "conf/attack/best_stripes.yaml",
    "conf/rectifier/learned_blur.yaml",
    "conf/detector/energy.yaml",
}
OWN = {(n.partition("=")[0], n.partition("=")[2]) for n in (*MINE, "network=my_network")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text()):
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), link
        if heading and "." not in heading:
            slugs = [
                re.sub(r"[^\w\s-]", "", line.lstrip("# ").lower()).strip().replace(" ", "-")
                for line in target.read_text().splitlines()
                if line.startswith("#")
            ]
            assert heading in slugs, link
