"""The command that writes a defended network as one file."""

import sys
from pathlib import Path

import pytest

from tests.tiny import composed
from uap_lightning import export as export_command
from uap_lightning import predict as predict_command
from uap_lightning.core.errors import UapError
from uap_lightning.jobs.export import export
from uap_lightning.jobs.predict import predict


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("output=guard.pth", r"ends in \.onnx or \.pt2"),
        ("pixels=int8", "expected one of float32, uint8"),
        ("precision=8", "expected 32 or 16"),
        ("defense=nowhere", "nowhere"),
    ],
)
def test_bad_settings_are_refused(defense, override, said):
    options = [f"defense={defense}", "network=tiny", "output=guard.onnx", override]
    with pytest.raises(UapError, match=said):
        export(composed("export", *options))
    assert not Path("guard.onnx").exists()


@pytest.mark.parametrize("command", [export_command, predict_command])
def test_help_and_the_config_are_shown_before_a_network_is_chosen(command, monkeypatch, capsys):
    def ended(*words):
        monkeypatch.setattr(sys, "argv", ["uap", *words])
        try:
            command.main()
        except SystemExit as stop:
            return stop.code, capsys.readouterr()
        return 0, capsys.readouterr()

    for words in (["--help"], ["--cfg", "job"], ["--cfg", "job", "--resolve"]):
        code, said = ended(*words)
        assert not code, said.err
        assert "network: ???" in said.out
    code, said = ended("defense=nowhere", "output=guard.onnx")
    assert code == 1
    assert said.err.startswith("error: network has no usable value")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("job", [export, predict])
@pytest.mark.parametrize("network", ["googlenet_bvlc", "caffenet", "vggf"])
def test_the_papers_networks_are_taken_as_far_as_their_weights(defense, images, job, network):
    Path("weights.caffemodel").write_bytes(b"none")
    options = [f"defense={defense}", f"network={network}", "network.weights=weights.caffemodel"]
    if job is predict:
        options += ["images=weights.caffemodel", "output=out/found.csv"]
    else:
        options += ["output=guard.onnx"]
    with pytest.raises(UapError, match=r"weights\.caffemodel"):
        job(composed(job.__name__, *options))
