"""The guard's decision rule, its gradient, its door, and the networks it takes."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import uap_lightning
from uap_lightning.core.errors import UapError
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.guard.guard import Guard
from uap_lightning.networks import TargetNetwork
from uap_lightning.networks.tiny import GratingEnergy


class Plus(torch.nn.Module):
    """Rectifies by adding 7."""

    def forward(self, x):
        return x + 7


class Chosen(torch.nn.Module):
    """Scores what it was told to."""

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.tensor(scores)

    def forward(self, difference):
        assert torch.equal(difference, torch.full_like(difference, -7))
        return self.scores


def test_the_guard_rectifies_where_the_detector_fires_and_nowhere_else(network, images):
    x = images.take(range(4))
    guard = Guard(network, Plus(), Chosen([1.0, -1.0, 0.0, 0.1]))
    seen = guard.inspect(x)
    assert seen.perturbed.tolist() == [True, False, False, True]
    for i, fired in enumerate(seen.perturbed.tolist()):
        given = x[i : i + 1].float() + (7 if fired else 0)
        torch.testing.assert_close(seen.logits[i : i + 1], network(given))
    torch.testing.assert_close(guard(x), seen.logits)
    assert torch.equal(seen.rectified, x.float() + 7)


class Normalised(torch.nn.Module):
    """The tiny network as a plain module: blue first, mean 127.5 and std 127.5."""

    def __init__(self):
        super().__init__()
        self.inner = GratingEnergy()

    def forward(self, x):
        return self.inner(x.flip(1))


def half_precision():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 8)).half()


def test_a_loaded_guard_is_the_parts_in_their_order(network, images, defense):
    guard = Guard.load(defense, network)
    parts = load_defense(defense)
    x = images.take(range(12))
    pixels = x.float()
    rectified = parts.rectifier(pixels)
    fires = parts.detector(pixels - rectified) > 0
    assert 0 < int(fires.sum()) < 12
    expected = torch.stack(
        [network((rectified if fires[i] else pixels)[i : i + 1])[0] for i in range(12)]
    )
    torch.testing.assert_close(guard(x), expected)
    assert not guard(x).requires_grad
    assert uap_lightning.Guard is Guard


def test_a_guard_takes_a_plain_module_with_its_normalisation(network, images, defense):
    x = images.take(range(6)) + torch.arange(3, dtype=torch.uint8)[:, None, None]
    plain = Guard.load(defense, Normalised(), mean=[127.5] * 3, std=[127.5] * 3, bgr=True)
    torch.testing.assert_close(plain(x), Guard.load(defense, network)(x))
    for kind in (np.array, torch.tensor):
        same = Guard.load(
            defense, Normalised(), mean=kind([127.5] * 3), std=kind([127.5] * 3), bgr=True
        )
        assert torch.equal(same(x), plain(x))
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    module.append(torch.nn.Linear(12, 8)).append(torch.nn.Dropout(0.5))
    guard = Guard.load(defense, module)
    used = guard.gate(x.float())[0]
    torch.testing.assert_close(guard(x), module.eval()(used))
    assert not any(p.requires_grad for p in guard.parameters())


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (Normalised(), {"mean": [0.5] * 3, "std": [0.5] * 3}, "expected pixel units"),
        (Normalised(), {"std": [1.0, 0.0, 1.0]}, "expected numbers above 0"),
        (Normalised(), {"mean": [1.0]}, "three finite numbers"),
        (Normalised(), {"mean": torch.zeros(3, 1, 1), "std": torch.ones(2)}, "std is .* three"),
        (Normalised(), {"std": [1.0, float("nan"), 1.0]}, "std is .* three finite numbers"),
        (Normalised(), {"mean": torch.zeros(3, 2, 2)}, "mean is .* three numbers"),
        (half_precision(), {}, r"parameters that are torch\.float16: .* \.float\(\)"),
        (torch.nn.Identity(), {}, r"returns \(1, 3, 32, 32\): expected N x K logits"),
        (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 8)), {}, "images of side 32"),
    ],
)
def test_networks_that_do_not_fit_are_refused(defense, module, arguments, said):
    with pytest.raises(UapError, match=said):
        Guard.load(defense, module, **arguments)


def test_a_target_network_normalises_by_itself(network, defense):
    with pytest.raises(UapError, match="leave out mean"):
        Guard.load(defense, network, mean=[0.0] * 3)


def test_another_network_or_number_of_classes_is_a_warning(network, images, defense):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Guard.load(defense, network)
        Guard.load(defense, Normalised())
    x = images.take([0])
    other = TargetNetwork(GratingEnergy(), "other", [127.5] * 3, [127.5] * 3)
    with pytest.warns(UserWarning, match="trained for tiny of 8 classes and guards other"):
        assert Guard.load(defense, other)(x).shape == (1, 8)
    five = torch.nn.Sequential(GratingEnergy(), torch.nn.Linear(8, 5))
    with pytest.warns(UserWarning, match="of 5 classes"):
        assert Guard.load(defense, five)(x).shape == (1, 5)


def test_images_of_another_size_are_refused(network, defense):
    guard = Guard.load(defense, network)
    with pytest.raises(UapError, match="images are 40 x 40: expected 32 x 32"):
        guard(torch.zeros(1, 3, 40, 40, dtype=torch.uint8))


@pytest.mark.parametrize("soft", [False, True])
def test_the_gradient_is_that_of_the_branch_taken(network, images, defense, soft):
    """Finite differences of the guard itself; with a soft gate, of the gate in closed form."""
    loaded = Guard.load(defense, network).double()
    guard = Guard(network, loaded.rectifier, loaded.detector, soft_gate=soft)
    x = images.take(range(8)).double().requires_grad_()
    torch.testing.assert_close(guard.gate(x)[0], loaded.gate(x)[0])
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).double()

    def loss(pixels, gate):
        rectified = guard.rectifier(pixels)
        score = guard.detector(pixels - rectified)
        weight = gate(score)[:, None, None, None]
        return network(pixels + weight * (rectified - pixels))[:, 0].sum()

    (gradient,) = torch.autograd.grad(network(guard.gate(x)[0])[:, 0].sum(), x)
    with torch.no_grad():
        score = guard.gate(x)[1]
        fired = (score > 0).double()
        step = 1e-5

        def gate(moved):
            return fired + soft * (moved.sigmoid() - score.sigmoid())

        ahead, behind = (loss(x + s * step * direction, gate) for s in (1, -1))
    numeric = (ahead - behind) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(numeric), rel=1e-3)


def test_importing_the_package_imports_no_pytorch_and_a_guard_nothing_slow():
    code = """
import sys, uap_lightning
assert "torch" not in sys.modules
uap_lightning.Guard
# Seconds each, and nothing that a guard in front of somebody's network needs.
slow = ("pytorch_lightning", "torchmetrics", "torchvision", "sklearn", "timm", "wandb")
assert not [name for name in slow if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        _ = uap_lightning.Missing


def quantized(x):
    """Quantised to eight bits, the same values."""
    return torch.quantize_per_tensor(x, 1.0, 0, torch.quint8)


# What a caller may hand in, made of four images (float, 0-255), and what the door says of it.
REFUSED = {
    "none": (lambda x: None, "a NoneType"),
    "list": (lambda x: x.tolist(), "a list"),
    "text": (lambda x: "photo.jpg", "a str"),
    "number": (lambda x: 3, "a int"),
    "array": (lambda x: x.numpy(), "from_numpy"),
    "list of tensors": (lambda x: list(x), "a list"),
    "one image": (lambda x: x[0], r"shape \(3, 32, 32\)"),
    "five dimensions": (lambda x: x[None], r"shape \(1, 4, 3, 32, 32\)"),
    "scalar": (lambda x: x[0, 0, 0, 0], r"shape \(\)"),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), r"shape \(4, 32, 32, 3\)"),
    "one channel": (lambda x: x[:, :1], r"shape \(4, 1, 32, 32\)"),
    "four channels": (lambda x: torch.cat([x, x[:, :1]], 1), r"shape \(4, 4, 32, 32\)"),
    "no image": (lambda x: x[:0], "at least one"),
    "no pixel": (lambda x: x[:, :, :0], "at least one"),
    "a claim of many": (lambda x: x[:1, :1, :1, :1].expand(10**9, 1, 32, 32), "expected N x 3"),
    "not a number": (lambda x: x.where(x != x[2, 1, 3, 4], torch.nan), "span nan"),
    "all not a number": (lambda x: x * torch.nan, "span nan"),
    "infinite": (lambda x: x.where(x != x[2, 1, 3, 4], torch.inf), "to inf"),
    "minus infinite": (lambda x: x.where(x != x[2, 1, 3, 4], -torch.inf), "span -inf"),
    "negative": (lambda x: x - 256, "expected values 0-255"),
    "a little negative": (lambda x: x.where(x != x[0, 0, 0, 0], -0.01), "expected values 0-255"),
    "above": (lambda x: x + 255.5, "expected values 0-255"),
    "normalised": (lambda x: (x - 127.5) / 64, "not normalised"),
    "from 0 to 1": (lambda x: x / 255, "multiply them by 255"),
    "bool": (lambda x: x > 127, "torch.bool: expected uint8"),
    "int8": (lambda x: (x / 2).to(torch.int8), "torch.int8"),
    "int32": (lambda x: x.int(), "torch.int32"),
    "int64": (lambda x: x.long(), "torch.int64"),
    "complex": (lambda x: x.to(torch.complex64), "torch.complex64"),
    "eight bits": (lambda x: x.to(torch.float8_e5m2), "float8"),
    "quantised": (quantized, "torch.quint8"),
    "sparse": (lambda x: x.to_sparse(), "sparse"),
    "meta": (lambda x: x.to("meta"), "meta"),
    "nested": (lambda x: torch.nested.nested_tensor(list(x)), "nested"),
    "another size": (lambda x: x[..., :24, :24], "24 x 24: expected 32 x 32"),
    "a side too long": (lambda x: torch.cat([x, x], 3), "32 x 64: expected 32 x 32"),
}
TAKEN = {
    "uint8": lambda x: x.byte(),
    "half": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "double": lambda x: x.double(),
    "with a gradient": lambda x: x.clone().requires_grad_(),
    "a view": lambda x: x.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1),
    "every second row": lambda x: x.repeat_interleave(2, 0)[::2],
    "channels last in memory": lambda x: x.contiguous(memory_format=torch.channels_last),
    "a parameter": lambda x: torch.nn.Parameter(x),
    "expanded": lambda x: x[:1].expand(4, -1, -1, -1),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_batch_of_images_is_refused_in_one_sentence(network, images, defense, kind):
    make, said = REFUSED[kind]
    given = make(images.take(range(4)).float())
    guard = Guard.load(defense, network)
    for call in (guard, guard.inspect):
        with pytest.raises(UapError, match=said) as refused:
            call(given)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 300


@pytest.mark.parametrize("kind", TAKEN)
def test_batches_of_every_form_get_the_answer_of_their_values(network, images, defense, kind):
    guard = Guard.load(defense, network)
    given = TAKEN[kind](images.take(range(4)).float())
    before = given.detach().clone()
    # the values as they are, in a tensor of the plainest form
    plain = torch.tensor(given.detach().float().tolist())
    expected, seen = guard.inspect(plain), guard.inspect(given)
    for name in ("logits", "score", "rectified"):
        torch.testing.assert_close(getattr(seen, name), getattr(expected, name))
    assert torch.equal(given, before)
    torch.testing.assert_close(guard(given), seen.logits)


def test_images_on_another_device_are_told(network, defense):
    guard = Guard.load(defense, network)
    guard.network.to("meta")
    with pytest.raises(UapError, match=r"on cpu and the guard is on meta.*\.to\('meta'\)"):
        guard(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
