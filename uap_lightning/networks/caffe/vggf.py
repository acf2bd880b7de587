"""VGG-F, the fast network of Chatfield et al. (2014)."""

from collections import OrderedDict

from torch import nn

from uap_lightning.networks.caffe.normalisation import AcrossChannels
from uap_lightning.networks.caffe.release import CaffeLayout
from uap_lightning.networks.caffe.released_network import released_network
from uap_lightning.networks.target import TargetNetwork

_LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


class VggF(nn.Sequential):
    """CNN-F of Chatfield et al., Return of the Devil in the Details (2014), Table 1; 224 x 224.

    Args:
        hidden: width of the two hidden inner products.
        classes: number of classes.
    """

    def __init__(self, hidden: int = 4096, classes: int = 1000) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(3, 64, 11, stride=4),
                relu1=nn.ReLU(),
                norm1=AcrossChannels(5, alpha=5e-4, beta=0.75, k=2.0),
                pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
                conv2=nn.Conv2d(64, 256, 5, padding=2),
                relu2=nn.ReLU(),
                norm2=AcrossChannels(5, alpha=5e-4, beta=0.75, k=2.0),
                pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
                conv3=nn.Conv2d(256, 256, 3, padding=1),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(256, 256, 3, padding=1),
                relu4=nn.ReLU(),
                conv5=nn.Conv2d(256, 256, 3, padding=1),
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
    name="vggf",
    namings=(dict(zip(_LAYERS, _LAYERS, strict=True)),),
    build=lambda outputs: VggF(outputs["fc7"], outputs["fc8"]),
    published=(
        "imagenet-vgg-f.mat from MatConvNet's page of pretrained models, or VGG_CNN_F.caffemodel "
        "from the Visual Geometry Group's page"
    ),
)


def vggf(
    weights: str | None = None, sha256: str | None = None, cache_dir: str = "cache"
) -> TargetNetwork:
    """VGG-F with weights in the files it was published in: blue first, minus a mean.

    Args:
        weights: a ``.caffemodel``, a ``.mat`` of MatConvNet, or a converted ``.safetensors``.
        sha256: checksum that file must have.
        cache_dir: where the converted weights are kept.

    Raises:
        UapError: no file is given, or it does not hold weights of this network.
    """
    return released_network(_LAYOUT, weights, sha256, cache_dir)
