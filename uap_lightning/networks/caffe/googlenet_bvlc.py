"""GoogLeNet as Caffe has it: biases instead of batch normalisation."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.networks.caffe.normalisation import AcrossChannels
from uap_lightning.networks.caffe.release import CaffeLayout
from uap_lightning.networks.caffe.released_network import released_network
from uap_lightning.networks.target import TargetNetwork

# Maps of the branches: 1x1; 3x3 and what reduces it; 5x5 and what reduces it; after pooling.
_INCEPTIONS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


class Inception(nn.Module):
    """Szegedy et al., Going Deeper with Convolutions (2015), Figure 2b.

    Args:
        inputs: maps that come in.
        out_1x1: maps of the 1 x 1 branch.
        reduce_3x3: maps before the 3 x 3 branch.
        out_3x3: maps of the 3 x 3 branch.
        reduce_5x5: maps before the 5 x 5 branch.
        out_5x5: maps of the 5 x 5 branch.
        out_pool: maps of the pooled branch.
    """

    def __init__(
        self,
        inputs: int,
        out_1x1: int,
        reduce_3x3: int,
        out_3x3: int,
        reduce_5x5: int,
        out_5x5: int,
        out_pool: int,
    ) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(inputs, out_1x1, 1)
        self.conv3x3_reduce = nn.Conv2d(inputs, reduce_3x3, 1)
        self.conv3x3 = nn.Conv2d(reduce_3x3, out_3x3, 3, padding=1)
        self.conv5x5_reduce = nn.Conv2d(inputs, reduce_5x5, 1)
        self.conv5x5 = nn.Conv2d(reduce_5x5, out_5x5, 5, padding=2)
        self.pool_proj = nn.Conv2d(inputs, out_pool, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """The four branches side by side: N x inputs x H x W to N x outputs x H x W."""
        pooled = functional.max_pool2d(maps, 3, stride=1, padding=1)
        branches = (
            self.conv1x1(maps),
            self.conv3x3(self.conv3x3_reduce(maps).relu()),
            self.conv5x5(self.conv5x5_reduce(maps).relu()),
            self.pool_proj(pooled),
        )
        return torch.cat(branches, 1).relu()


class GoogLeNetBvlc(nn.Module):
    """BVLC's GoogLeNet without the auxiliary heads, which only training uses.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.conv2_reduce = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        self.inception = nn.ModuleDict(
            {name: Inception(*maps) for name, maps in _INCEPTIONS.items()}
        )
        self.fc = nn.Linear(1024, classes)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm = AcrossChannels(5, alpha=1e-4, beta=0.75, k=1.0)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: N x 3 x H x W, blue first and centred, to N x classes."""
        maps = self.norm(self.pool(self.conv1(images).relu()))
        maps = self.conv2(self.conv2_reduce(maps).relu()).relu()
        maps = self.pool(self.norm(maps))
        for name, inception in self.inception.items():
            maps = inception(self.pool(maps) if name in ("4a", "5a") else maps)
        logits: Tensor = self.fc(maps.mean((2, 3)))
        return logits


_BVLC = {"conv1": "conv1/7x7_s2", "conv2_reduce": "conv2/3x3_reduce", "conv2": "conv2/3x3"}
# The Princeton model, which MatConvNet converted
_PRINCETON = {"conv1": "conv1", "conv2_reduce": "reduction2", "conv2": "conv2"}
for _number, _name in enumerate(_INCEPTIONS, start=1):
    for _module, _bvlc, _princeton in (
        ("conv1x1", "1x1", "out0"),
        ("conv3x3_reduce", "3x3_reduce", "reduction1"),
        ("conv3x3", "3x3", "out1"),
        ("conv5x5_reduce", "5x5_reduce", "reduction2"),
        ("conv5x5", "5x5", "out2"),
        ("pool_proj", "pool_proj", "out3"),
    ):
        _BVLC[f"inception.{_name}.{_module}"] = f"inception_{_name}/{_bvlc}"
        _PRINCETON[f"inception.{_name}.{_module}"] = f"icp{_number}_{_princeton}"
_BVLC["fc"] = "loss3/classifier"
_PRINCETON["fc"] = "cls3_fc"

_LAYOUT = CaffeLayout(
    name="googlenet_bvlc",
    namings=(_BVLC, _PRINCETON),
    build=lambda outputs: GoogLeNetBvlc(outputs["fc"]),
    published=(
        "bvlc_googlenet.caffemodel from BVLC's model zoo, or imagenet-googlenet-dag.mat from "
        "MatConvNet's page of pretrained models"
    ),
)


def googlenet_bvlc(
    weights: str | None = None, sha256: str | None = None, cache_dir: str = "cache"
) -> TargetNetwork:
    """BVLC's GoogLeNet with weights in the files it was published in: blue first, minus a mean.

    Args:
        weights: a ``.caffemodel``, a ``.mat`` of MatConvNet, or a converted ``.safetensors``.
        sha256: checksum that file must have.
        cache_dir: where the converted weights are kept.

    Raises:
        UapError: no file is given, or it does not hold weights of this network.
    """
    return released_network(_LAYOUT, weights, sha256, cache_dir)
