"""Names of ImageNet's classes."""

from uap_lightning.data.imagenet_classes import class_names


def test_imagenet_classes_have_names():
    names = class_names(1000)
    assert names[281].startswith("tabby")
    assert len(names) == 1000
    assert class_names(3) == ["class 0", "class 1", "class 2"]
