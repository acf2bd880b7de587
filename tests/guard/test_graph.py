"""The exported guard, in onnxruntime alone and in torch.export, against the guard."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import composed
from uap_lightning.core.errors import UapError
from uap_lightning.detectors import ConvDetector, NoDetector
from uap_lightning.guard import graph
from uap_lightning.guard.graph import OUTPUTS, describe, to_onnx, to_program, to_pt2
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.export import export
from uap_lightning.networks import TargetNetwork
from uap_lightning.rectifiers import FastPRN

# A process that has onnxruntime and no PyTorch: it answers batches of several lengths.
BARE = """
import json, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession("guard.onnx", providers=["CPUExecutionProvider"])
images = numpy.load("images.npy")
found = {}
for n in (0, 1, 3, len(images)):
    for output, value in zip(session.get_outputs(), session.run(None, {"images": images[:n]})):
        found[f"{output.name}{n}"] = value
numpy.savez("found.npz", **found)
[given] = session.get_inputs()
record = session.get_modelmeta().custom_metadata_map["uap_lightning"]
outputs = [output.shape for output in session.get_outputs()]
said = {"shape": given.shape, "type": given.type, "outputs": outputs}
print(json.dumps({**said, "record": json.loads(record)}))
assert not {"torch", "onnx", "uap_lightning"} & set(sys.modules)
"""


@pytest.fixture
def guard(defense, network):
    return Guard.load(defense, network)


def in_onnxruntime(images):
    np.save("images.npy", images.numpy())
    pytest.importorskip("onnxruntime")
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load("found.npz"), json.loads(done.stdout)


def test_one_onnx_file_answers_as_the_guard_does_in_onnxruntime_alone(guard, defense, images):
    pytest.importorskip("onnxscript")
    options = (f"defense={defense}", "network=tiny", "output=guard.onnx")
    export(composed("export", *options))
    assert [p.name for p in Path.cwd().glob("*.onnx*")] == ["guard.onnx"]
    x = images.take(range(40)).float()
    found, said = in_onnxruntime(x)
    assert said["shape"] == ["batch", 3, 32, 32]
    assert {shape[0] for shape in said["outputs"]} == {"batch"}
    assert said["type"] == "tensor(float)"
    assert said["record"]["defense"] == guard.defense.digest
    for n in (1, 3, 40):
        seen = guard.inspect(x[:n])
        for name in OUTPUTS:
            expected = getattr(seen, name).numpy()
            np.testing.assert_allclose(found[f"{name}{n}"], expected, atol=1e-3)
    assert 0 < found["perturbed40"].sum() < 40

    # what is there is not replaced unless asked for
    with pytest.raises(UapError, match=r"guard\.onnx exists"):
        export(composed("export", *options))
    assert len(in_onnxruntime(x)[0].files) == 16


@pytest.mark.parametrize("half", [False, True])
def test_the_fast_prn_is_the_same_in_onnxruntime_with_cells_at_the_borders(guard, images, half):
    """Its padding and its strides have forms of their own there."""
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    guard.rectifier = FastPRN(width=8, coarse=8, blocks=1).eval()
    torch.nn.init.normal_(guard.rectifier.tail.weight, std=0.1)
    x = images.take(range(5)).float()
    program = to_program(guard, torch.float32, half=half)
    halved = [name for name, value in program.state_dict.items() if value.dtype == torch.half]
    layers = [f"guard.rectifier.{name}.layer.weight" for name in ("head", "down", "up", "tail")]
    assert set(layers) <= set(halved) if half else not halved
    Path("guard.onnx").write_bytes(to_onnx(program, {}))
    found, _ = in_onnxruntime(x)
    expected = guard.rectifier(x).detach()
    assert (expected - x).abs().max() > 1
    np.testing.assert_allclose(found["rectified5"], expected.numpy(), atol=0.05 if half else 1e-3)


def spoilt(images):
    """Eight images, six of them with one value that no image has; which ones."""
    x = images.take(range(8)).float()
    for number, value in enumerate((torch.nan, torch.inf, -torch.inf, -1.0, 256.0, 1e30)):
        x[number + 1, number % 3, 5, 7 * (number % 4)] = value
    return x, torch.tensor([False, *[True] * 6, False])


def flagged(x, spoilt_ones, guard, found):
    """Spoilt images have no answer and count as perturbed; the others have the guard's."""
    logits, score, perturbed = (torch.as_tensor(found[name]) for name in OUTPUTS[:3])
    assert logits[spoilt_ones].isnan().all()
    assert score[spoilt_ones].isnan().all()
    assert perturbed[spoilt_ones].all()
    seen = guard.inspect(x[~spoilt_ones])
    torch.testing.assert_close(logits[~spoilt_ones], seen.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(score[~spoilt_ones], seen.score, rtol=1e-3, atol=1e-3)
    assert torch.equal(perturbed[~spoilt_ones], seen.perturbed)


def test_an_image_that_is_none_is_flagged_in_every_file(guard, images):
    x, spoilt_ones = spoilt(images)
    program = to_program(guard, torch.float32, half=False)
    flagged(x, spoilt_ones, guard, dict(zip(OUTPUTS, program.module()(x), strict=True)))
    pytest.importorskip("onnxscript")
    Path("guard.onnx").write_bytes(to_onnx(program, {}))
    found, _ = in_onnxruntime(x)
    flagged(x, spoilt_ones, guard, {name: found[f"{name}8"] for name in OUTPUTS})
    assert found["logits0"].shape == (0, 8)
    assert found["rectified0"].shape == (0, 3, 32, 32)


def test_what_one_device_computes_in_bf16_is_not_part_of_the_graph(
    defense, network, images, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    guard = Guard.load(defense, network, bf16=True)
    program = to_program(guard, torch.float32, half=False)
    assert "autocast" not in str(program.graph)
    assert guard.bf16
    x = images.take(range(5)).float()
    exact = Guard.load(defense, network).inspect(x)
    torch.testing.assert_close(program.module()(x)[3], exact.rectified)


def test_half_precision_halves_the_layers_and_keeps_the_answers(defense, images):
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 32, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3, 2)]
    model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(3136, 8))
    guard = Guard.load(defense, model, mean=[127.5] * 3, std=[64.0] * 3)
    x = images.take(range(40))
    before = guard.inspect(x)
    program = to_program(guard, torch.uint8, half=True)
    content = to_onnx(program, describe(guard, "uint8", 16))
    Path("guard.onnx").write_bytes(content)
    found, said = in_onnxruntime(x)
    assert said["type"] == "tensor(uint8)"
    np.testing.assert_allclose(found["logits40"], before.logits.numpy(), atol=0.02)
    clear = before.score.abs().numpy() > 0.05
    assert clear.sum() > 30
    assert (found["perturbed40"] == before.perturbed.numpy())[clear].all()
    onnx = pytest.importorskip("onnx")
    stored = [t for t in onnx.load_from_string(content).graph.initializer if t.data_type == 10]
    weights = sum(p.numel() for part in (model, guard.rectifier) for p in part.parameters())
    assert sum(int(np.prod(t.dims)) for t in stored) == weights
    # the guard itself stays as it was
    assert torch.equal(guard.inspect(x).logits, before.logits)


@pytest.mark.parametrize("pixels", [torch.float32, torch.uint8])
def test_a_torch_export_file_answers_as_the_guard_does(guard, images, pixels):
    Path("guard.pt2").write_bytes(to_pt2(to_program(guard, pixels, half=False), {"size": 32}))
    extra = {"uap_lightning.json": ""}
    program = torch.export.load("guard.pt2", extra_files=extra).module()
    assert json.loads(extra["uap_lightning.json"]) == {"size": 32}
    shapes = [tuple(found.shape) for found in program(images.take([0])[:0].to(pixels))]
    assert shapes == [(0, 8), (0,), (0,), (0, 3, 32, 32)]
    for n in (1, 7):
        x = images.take(range(n)).to(pixels)
        for found, name in zip(program(x), OUTPUTS, strict=True):
            torch.testing.assert_close(found, getattr(guard.inspect(x), name))


def test_a_guard_without_a_detector_is_exported(network, guard, images):
    every = Guard(network, guard.rectifier, NoDetector())
    every._defense = guard.defense
    program = to_program(every, torch.float32, half=False).module()
    x = images.take(range(5)).float()
    assert program(x)[2].tolist() == [True] * 5
    torch.testing.assert_close(program(x)[0], network(guard.rectifier(x)))


def test_a_learned_detector_is_exported(network, guard, images):
    torch.manual_seed(0)
    learned = Guard(network, guard.rectifier, ConvDetector(width=4).requires_grad_(False))
    learned._defense = guard.defense
    x = images.take(range(7)).float()
    learned.detector.raise_threshold(float(learned.rectify(x)[1].median()))
    program = to_program(learned, torch.float32, half=False).module()
    for n in (1, 7):
        seen, found = learned.inspect(x[:n]), program(x[:n])
        torch.testing.assert_close(found[0], seen.logits)
        torch.testing.assert_close(found[1], seen.score)
        assert torch.equal(found[2], seen.perturbed)
    assert 0 < int(seen.perturbed.sum()) < 7


class Undecided(torch.nn.Module):
    """Its forward pass depends on what it is given, which no graph can hold."""

    def forward(self, x):
        pooled = x.mean((2, 3))
        return pooled if pooled.sum() > 0 else -pooled


def test_what_cannot_be_exported_is_told(defense, network, guard, monkeypatch):
    with pytest.warns(UserWarning, match="3 classes"):
        undecided = Guard.load(defense, Undecided())
    with pytest.raises(UapError, match=r"Undecided with the rectifier .* cannot be exported"):
        to_program(undecided, torch.float32, half=False)
    with pytest.raises(UapError, match=r"Guard\.load"):
        to_program(Guard(network, guard.rectifier, guard.detector), torch.float32, half=False)
    monkeypatch.setattr(graph.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UapError, match=r"uap-lightning\[export\]"):
        to_onnx(to_program(guard, torch.float32, half=False), {})


def test_the_name_of_a_network_is_in_the_record(guard, network):
    assert isinstance(guard.network, TargetNetwork)
    record = describe(guard, "uint8", 16)
    assert (record["network"], record["size"], record["pixels"]) == ("tiny", 32, "uint8")


def test_the_record_has_the_classes_of_the_network_it_holds(defense):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 5))
    with pytest.warns(UserWarning, match="of 5 classes"):
        record = describe(Guard.load(defense, model), "float32", 32)
    assert record["classes"] == 5
    assert record["condition"]["classes"] == 8
