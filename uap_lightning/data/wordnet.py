"""ImageNet's classes by their WordNet ids."""

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
