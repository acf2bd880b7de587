"""The runs that a table needs: their commands, and what is refused."""

import json
import shlex

import pytest

from experiments import (
    configs,
    cross_network_tables,
    dct_compression,
    examples,
    extension_ablation,
    norm_tables,
    paper_tables,
    runs,
    synthetic_figure,
)
from tests.tiny import typed_config
from uap_lightning.jobs.schema import CraftConfig

SCRIPTS = (
    *(norm_tables, cross_network_tables, synthetic_figure, dct_compression, examples),
    *(extension_ablation, paper_tables),
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_dry_run_prints_commands_that_compose_and_runs_nothing(script, tmp_path, capsys):
    script.main(["--dry-run", "--output", str(tmp_path / "out"), "experiment=paper"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 3
    assert not (tmp_path / "out").exists()
    seen = set()
    for line in lines:
        program, flag, module, *overrides = shlex.split(line)
        assert (program, flag) == ("python", "-m")
        kept = [override for override in overrides if not override.startswith("hydra.")]
        cfg = typed_config(module.partition(".")[2], *kept)
        seen.add((cfg.network["name"], cfg.norm.name))
    networks = {"caffenet", "vggf", "googlenet_bvlc"}
    norms = {"linf"} if script is examples else {"l2", "linf"}
    assert seen == {(network, norm) for network in networks for norm in norms}


@pytest.mark.parametrize("script", [norm_tables, dct_compression, synthetic_figure, examples])
def test_no_number_is_printed_without_a_result(script, tmp_path):
    with pytest.raises(SystemExit, match=r"results\.json is missing: expected a finished result"):
        script.main(["--table-only", "--output", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_networks_are_told_apart_or_refused(capsys):
    two = ["--network", "network=timm network.model=a", "--network", "network=timm network.model=b"]
    norm_tables.main(["--dry-run", "experiment=paper", *two, "data.root=X"])
    said = capsys.readouterr().out
    assert all(f"train-{name}-l2" in said for name in "ab")
    assert said.count("data.root=X") == said.count("\n")
    with pytest.raises(SystemExit, match="two networks are called vggf"):
        norm_tables.main(["--dry-run", "--network", "network=vggf", "--network", "network=vggf"])
    with pytest.raises(SystemExit, match="expected overrides that choose a network"):
        norm_tables.main(["--dry-run", "--network", "network.weights=f"])


@pytest.mark.parametrize("config", [{"name": "run", "gone": 3}, {"name": "run"}, {"seed": "x"}])
def test_a_config_of_another_version_is_refused_in_a_sentence(tmp_path, config):
    content = {"schema": 1, "status": "ok", "rows": [], "config": config}
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=r"^error: the config in .*: run it again with") as said:
        configs.settings_of(runs.Job("craft", (), tmp_path), CraftConfig)
    assert "\n" not in str(said.value)
