"""In which precision a guard computes, whatever surrounds it."""

import copy
import subprocess
import sys

import pytest
import torch

from tests.tiny import typed_config
from uap_lightning.core.errors import UapError
from uap_lightning.detectors import NoDetector
from uap_lightning.guard.defense_folder import load_defense, save_defense
from uap_lightning.guard.guard import Guard
from uap_lightning.jobs.config import arguments_of, build
from uap_lightning.networks.tiny import CLASSES


def test_a_guard_works_as_it_was_tested(network, images, defense):
    guard = Guard.load(defense, network)
    x = images.take(range(6))
    expected = guard.inspect(x)
    assert not any(module.training for module in guard.modules())
    assert not any(module.training for module in guard.train().modules())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = guard.inspect(x)
    assert torch.equal(seen.rectified, expected.rectified)
    assert torch.equal(seen.score, expected.score)


def test_bf16_computes_the_rectifier_alone_in_bf16_and_only_where_the_device_can(
    network, images, defense, monkeypatch
):
    x = images.take(range(16))
    exact = Guard.load(defense, network).inspect(x)
    guard = Guard.load(defense, network, bf16=True)
    seen = []
    for name in ("rectifier", "detector", "network"):
        getattr(guard, name).register_forward_hook(
            lambda *_, name=name: seen.append((name, torch.is_autocast_enabled("cpu")))
        )
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda n=native: {"avx512_bf16": n})
        seen.clear()
        found = guard.inspect(x)
        assert seen == [("rectifier", native), ("detector", False), ("network", False)]
        assert found.rectified.dtype == found.score.dtype == torch.float32
        # Rounded to 8 bits, what it removes is off by less than one in a hundred.
        off = (found.rectified - exact.rectified).abs().max()
        assert 0 < off < 0.01 * (exact.rectified - x).abs().max() if native else off == 0


@pytest.mark.parametrize(
    "name", ["prn_residual", "prn_general_fast", "prn", "prn_printed", "unet", "jpeg"]
)
def test_bf16_is_refused_for_a_rectifier_that_draws_the_whole_image(name, network, tmp_path):
    model = typed_config("train", "network=tiny", "norm=l2", f"rectifier={name}").rectifier.model
    arguments = {"rectifier": arguments_of(model), "detector": {}}
    condition = {"train_network": "tiny", "train_norm": "l2", "eps": 1, "classes": CLASSES}
    condition |= {"rectifier": name, "detector": "none", "size": 32, "data": "generated"}
    save_defense(tmp_path, build(model, torch.nn.Module), NoDetector(), arguments, condition)
    if name in ("prn_printed", "jpeg"):
        with pytest.raises(UapError, match=rf"\({name}\) draws the whole image"):
            Guard.load(tmp_path, network, bf16=True)
    else:
        assert Guard.load(tmp_path, network, bf16=True).bf16


@pytest.mark.parametrize("set_by", ["default", "allow_tf32", "all", "conv"])
def test_no_convolution_of_the_rectifier_takes_tf32(set_by):
    """The settings while it works and after, in a process of its own, however they were set."""
    code = """
import sys
import torch
from uap_lightning.guard.guard import full_precision
cudnn = torch.backends.cudnn
cudnn.benchmark = cudnn.deterministic = True
if sys.argv[1] == "allow_tf32":
    cudnn.allow_tf32 = False
elif sys.argv[1] == "all":
    cudnn.fp32_precision = "tf32"
elif sys.argv[1] == "conv":
    cudnn.conv.fp32_precision = "ieee"
def others():
    return cudnn.benchmark, cudnn.deterministic, cudnn.enabled, cudnn.benchmark_limit
precision, before = cudnn.conv.fp32_precision, others()
assert precision == {"allow_tf32": "none", "conv": "ieee"}.get(sys.argv[1], "tf32")
with full_precision(torch.device("cuda")):
    assert cudnn.conv.fp32_precision in ("ieee", "none")
    assert others() == before
    if sys.argv[1] != "conv":  # PyTorch cannot tell
        assert not cudnn.allow_tf32
assert (cudnn.conv.fp32_precision, others()) == (precision, before)
with full_precision(torch.device("cpu")):
    assert cudnn.conv.fp32_precision == precision
"""
    command = [sys.executable, "-c", code, set_by]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_rectifies_as_exactly_as_a_processor(network, images, defense):
    x = images.take(range(16)).float()
    expected = load_defense(defense).rectifier.double()(x.double())
    guard = Guard.load(defense, copy.deepcopy(network).cuda())
    found = guard.inspect(x.cuda()).rectified.cpu()
    assert (found - expected).abs().max() < 2e-3
    # such a difference is seen: the bare rectifier takes TF32
    assert (guard.rectifier(x.cuda()).cpu() - expected).abs().max() > 2e-3
