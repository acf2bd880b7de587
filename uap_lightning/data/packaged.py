"""The photographs that installed packages carry: foolbox, scikit-image, scikit-learn."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from uap_lightning.core.errors import UapError
from uap_lightning.data.photographs import Photograph, Split

UNLABELLED = {
    "skimage": [
        f"data/{name}"
        for name in (
            "astronaut.png",
            "brick.png",
            "camera.png",
            "chelsea.png",
            "coffee.png",
            "coins.png",
            "grass.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "ihc.png",
            "moon.png",
            "motorcycle_left.png",
            "page.png",
            "retina.jpg",
            "rocket.jpg",
            "text.png",
        )
    ],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}
FIRST_TESTED = 10
_DISTRIBUTION = {"skimage": "scikit-image", "sklearn": "scikit-learn", "foolbox": "foolbox"}


def packaged_photographs(exclude: Sequence[str] = ()) -> Split:
    """Twenty ImageNet photographs with labels and eighteen others without.

    foolbox numbers its twenty: the last ten are the test photographs, the first ten and the
    unlabelled ones train. The split is fixed, so that figures can be compared, and was chosen by
    the bare EfficientNet-Lite0's accuracy on clean crops: an accuracy relative to the clean one
    says little where the network is wrong to begin with.

    Args:
        exclude: file names to leave out of the training photographs.

    Raises:
        UapError: a package is not installed, or ``exclude`` names a file that is not there.
    """
    labelled = sorted(_folder("foolbox").glob("data/imagenet_*.jpg"))
    numbered = [
        (int(match[1]), Photograph(str(path), int(match[2])))
        for path in labelled
        if (match := re.fullmatch(r"imagenet_(\d+)_(\d+)\.jpg", path.name))
    ]
    others = [_folder(package) / file for package, files in UNLABELLED.items() for file in files]
    unknown = set(exclude) - {path.name for path in others}
    if unknown:
        raise UapError(
            f"data.exclude names {', '.join(sorted(unknown))}, which no package carries: "
            f"choose from {', '.join(path.name for path in others)}."
        )
    return Split(
        train=tuple(photograph for number, photograph in numbered if number < FIRST_TESTED)
        + tuple(Photograph(str(path), None) for path in others if path.name not in exclude),
        test=tuple(photograph for number, photograph in numbered if number >= FIRST_TESTED),
        classes=1000,
    )


def _folder(package: str) -> Path:
    # find_spec does not import the package: only its files are of interest.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UapError(
            f"data=photos takes photographs from the package {_DISTRIBUTION[package]}, which is "
            "not installed: pip install 'uap-lightning[quickstart]'."
        )
    return Path(spec.origin).parent
