"""CaffeNet: AlexNet as Caffe's authors trained it, pooling before it normalises."""

from collections import OrderedDict

from torch import nn

from uap_lightning.networks.caffe.normalisation import AcrossChannels
from uap_lightning.networks.caffe.release import CaffeLayout
from uap_lightning.networks.caffe.released_network import released_network
from uap_lightning.networks.target import TargetNetwork

_LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


class CaffeNet(nn.Sequential):
    """BVLC's reference CaffeNet (Jia et al., 2014) for images of 224 x 224.

    Args:
        hidden: width of the two hidden inner products.
        classes: number of classes.
    """

    def __init__(self, hidden: int = 4096, classes: int = 1000) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(3, 96, 11, stride=4),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
                norm1=AcrossChannels(5, alpha=1e-4, beta=0.75, k=1.0),
                conv2=nn.Conv2d(96, 256, 5, padding=2, groups=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
                norm2=AcrossChannels(5, alpha=1e-4, beta=0.75, k=1.0),
                conv3=nn.Conv2d(256, 384, 3, padding=1),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(384, 384, 3, padding=1, groups=2),
                relu4=nn.ReLU(),
                conv5=nn.Conv2d(384, 256, 3, padding=1, groups=2),
                relu5=nn.ReLU(),
                pool5=nn.MaxPool2d(3, 2, ceil_mode=True),
                flatten=nn.Flatten(),
                fc6=nn.Linear(256 * 6 * 6, hidden),
                relu6=nn.ReLU(),
                fc7=nn.Linear(hidden, hidden),
                relu7=nn.ReLU(),
                fc8=nn.Linear(hidden, classes),
            )
        )


_LAYOUT = CaffeLayout(
    name="caffenet",
    namings=(dict(zip(_LAYERS, _LAYERS, strict=True)),),
    build=lambda outputs: CaffeNet(outputs["fc7"], outputs["fc8"]),
    published=(
        "bvlc_reference_caffenet.caffemodel from BVLC's model zoo, or imagenet-caffe-ref.mat from "
        "MatConvNet's page of pretrained models"
    ),
    in_order=("pool1", "norm1"),  # AlexNet has the same shapes and normalises first
)


def caffenet(
    weights: str | None = None, sha256: str | None = None, cache_dir: str = "cache"
) -> TargetNetwork:
    """CaffeNet with weights in the files it was published in: blue first, minus a mean.

    Args:
        weights: a ``.caffemodel``, a ``.mat`` of MatConvNet, or a converted ``.safetensors``.
        sha256: checksum that file must have.
        cache_dir: where the converted weights are kept.

    Raises:
        UapError: no file is given, or it does not hold weights of this network.
    """
    return released_network(_LAYOUT, weights, sha256, cache_dir)
