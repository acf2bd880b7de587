"""What training runs on a GPU with deterministic algorithms: no operator of torch's list."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny import composed
from uap_lightning.jobs.config import build, find_conf
from uap_lightning.networks.caffe.caffenet import CaffeNet
from uap_lightning.networks.caffe.googlenet_bvlc import GoogLeNetBvlc
from uap_lightning.networks.caffe.vggf import VggF
from uap_lightning.networks.target import TargetNetwork
from uap_lightning.networks.tiny import GratingEnergy
from uap_lightning.training.losses import charbonnier

# torch.use_deterministic_algorithms lists them by module; these are their names in ATen.
RAISING = {
    "avg_pool3d_backward",
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "adaptive_max_pool2d_backward",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward",
    "max_unpool2d",
    "max_unpool3d",
    *(f"upsample_{mode}_backward" for mode in ("linear1d", "bilinear2d", "bicubic2d")),
    *(f"_upsample_{mode}_aa_backward" for mode in ("bilinear2d", "bicubic2d")),
    "upsample_trilinear3d_backward",
    *(f"reflection_pad{n}d_backward" for n in (1, 2, 3)),
    "nll_loss2d_forward",
    "_ctc_loss_backward",
    "_embedding_bag_backward",
    "put",
    "put_",
    "histc",
    "bincount",
    "median",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
}
# Pools of 6 x 6 and 7 x 7, which torchvision's classifiers of these need: trainer.deterministic
# is warn for their sake.
EXCEPTIONS = {
    "alexnet": {"_adaptive_avg_pool2d_backward"},
    "vgg16": {"_adaptive_avg_pool2d_backward"},
}
# Any of a library's architectures, which the user names.
OPEN = {"timm", "torchvision"}
OWN = {
    "caffenet": CaffeNet,
    "vggf": VggF,
    "googlenet_bvlc": GoogLeNetBvlc,
    "tiny": GratingEnergy,
}
NETWORKS = sorted(
    path.stem for path in (Path(find_conf()) / "network").glob("*.yaml") if path.stem not in OPEN
)


class Spy(TorchDispatchMode):
    """Gathers the names of the operators that are run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.names.add(operator.overloadpacket.__name__)
        return operator(*args, **(kwargs or {}))


def architecture(name):
    """The classifier of conf/network/NAME.yaml, without weights."""
    if name in OWN:
        return OWN[name]()
    node = composed("train", f"network={name}").network
    if "variant" in node:
        return timm.create_model(f"tf_efficientnet_lite{node.variant}")
    extra = {"init_weights": False} if node.model == "googlenet" else {}
    return torchvision.models.get_model(node.model, weights=None, **extra)


def operators(network, rectifier, size):
    """What a training step runs, forward and backward; nothing is computed on a meta device."""
    images = torch.empty(2, 3, size, size, device="meta")
    with Spy() as spy:
        rectified = rectifier(images)
        logits = network(rectified)
        target = torch.empty(2, dtype=torch.long, device="meta")
        loss = functional.cross_entropy(logits, target) + charbonnier(rectified, images)
        loss.backward()
    return spy.names


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step_on_a_gpu_is_deterministic(name):
    with torch.device("meta"):
        model = architecture(name)
        rectifier = nn.Conv2d(3, 3, 1)
        network = TargetNetwork(model, name, [127.0] * 3, [1.0] * 3)
    used = operators(network.to("meta"), rectifier, 224)
    assert "convolution_backward" in used
    assert used & RAISING == EXCEPTIONS.get(name, set())


@pytest.mark.parametrize("name", ["prn", "prn_printed", "prn_authors", "prn_residual"])
def test_so_are_the_rectifiers_that_are_trained(name):
    rectifier = build(composed("train", f"rectifier={name}").rectifier.model).to("meta")
    network = TargetNetwork(nn.Sequential(nn.Flatten()), "flat", [127.0] * 3, [1.0] * 3)
    used = operators(network.to("meta"), rectifier, 32)
    assert "convolution_backward" in used
    assert not used & RAISING


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.LocalResponseNorm(5), "avg_pool3d_backward"),
        (nn.AdaptiveAvgPool2d(6), "_adaptive_avg_pool2d_backward"),
        (nn.AdaptiveMaxPool2d(6), "adaptive_max_pool2d_backward"),
        (nn.ReflectionPad2d(1), "reflection_pad2d_backward"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "upsample_bilinear2d_backward"),
    ],
)
def test_the_spy_sees_what_is_on_the_list(module, name):
    images = torch.zeros(1, 3, 8, 8, requires_grad=True)
    with Spy() as spy:
        module(images).sum().backward()
    assert name in spy.names & RAISING


def test_the_trainer_warns_where_torch_has_no_deterministic_operator():
    assert composed("train", "network=tiny", "data=generated").trainer.deterministic == "warn"
