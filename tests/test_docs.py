"""The site builds strictly and loads nothing; its examples run and its sentences are the code's."""

import ast
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from tests.tiny import QUICK_TRAIN, run
from uap_lightning import Guard
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.config import find_conf, register_schemas, typed
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.networks.tiny import tiny
from uap_lightning.results.file import read_results

ROOT = Path(__file__).resolve().parent.parent
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
    # What is included is there, and not the line that includes it.
    attack = (tmp_path / "site" / "add-attack.html").read_text()
    assert "plane wave" in attack
    assert "--8" not in attack
    # Docstrings are rendered with their arguments.
    reference = (tmp_path / "site" / "reference.html").read_text()
    assert "uap_lightning.guard.guard.Guard.load" in reference
    assert ":class:" not in reference


def test_the_worked_examples_run_and_their_defence_loads_where_it_is_trusted(tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    shutil.copytree(EXAMPLES, mine)
    overrides = (*QUICK_TRAIN, *MINE, "bank.min_fooling_ratio=0", "attack.tries=4")
    done = run("train", "--config-dir", "conf", *overrides, cwd=mine)
    assert done.returncode == 0, done.stdout + done.stderr
    config = read_results(mine / "outputs" / "run" / "results.json")["config"]
    assert config["attack"]["name"] == "best_stripes"
    assert config["rectifier"]["model"]["_target_"] == "learned_blur.LearnedBlur"

    folder = mine / "outputs" / "run" / "defense"
    monkeypatch.syspath_prepend(str(mine))
    with pytest.raises(UapError, match=r"learned_blur\.LearnedBlur.*UAP_TRUST=learned_blur"):
        Guard.load(folder, tiny())
    monkeypatch.setenv("UAP_TRUST", "learned_blur, energy")
    guard = Guard.load(folder, tiny())
    weight = guard.rectifier.weight
    assert weight.shape == (5, 5)
    # It was trained: it is no longer the identity.
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert not torch.equal(guard.inspect(images).rectified, images.float())
    # The filter as an explicit sum, at a place inside.
    patch = images[0, 1, 8:13, 20:25].float()
    assert torch.allclose(
        guard.inspect(images).rectified[0, 1, 10, 22], (patch * weight).sum(), rtol=1e-4
    )


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


def test_commands_are_ones_that_there_are():
    for page in (ROOT / "docs").glob("*.md"):
        for package, module in re.findall(
            r"python -m (uap_lightning|experiments)\.(\w+)", page.read_text()
        ):
            assert list((ROOT / package).glob(f"{module}*")), (page, module)
