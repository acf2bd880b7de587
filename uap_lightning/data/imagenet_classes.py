"""ImageNet's classes: their WordNet ids and their names."""

import re
from functools import lru_cache


@lru_cache(maxsize=1)
def imagenet_wnids() -> list[str]:
    """The 1,000 WordNet ids of ILSVRC 2012 in class order."""
    from timm.data.imagenet_info import ImageNetInfo  # seconds to import, and only needed here

    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_label_name(number) for number in range(1000)]


def is_wnid(name: str) -> bool:
    """Whether a name is a WordNet id, such as n01440764."""
    return re.fullmatch(r"n\d{8}", name) is not None


def class_names(count: int) -> list[str]:
    """Short class names: ImageNet's for 1,000 classes, numbers otherwise."""
    if count != 1000:
        return [f"class {number}" for number in range(count)]
    from timm.data.imagenet_info import ImageNetInfo  # seconds to import, and only needed here

    info = ImageNetInfo("imagenet-1k")
    names = [info.index_to_description(number, detailed=False) for number in range(count)]
    return [name.split(",")[0] for name in names]
