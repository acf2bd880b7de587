"""How the numbers of an image lie in memory: all of a channel together, or all of a pixel.

    python benchmarks/network_layouts.py --threads 1

Each cell is how many times as fast a classifier is with ``channels_last``, forward alone and
forward and back to the image: medians of rounds that take turns. Weights are random, which
changes no time.
"""

import argparse
import statistics
import time

import timm
import torch
from torch import nn
from torchvision import models

from uap_lightning.core.device import pick_device

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def classifiers() -> dict[str, nn.Module]:
    """Classifiers by name."""
    return {
        "EfficientNet-Lite0": timm.create_model("efficientnet_lite0"),
        "MobileNet v2": timm.create_model("mobilenetv2_100"),
        "SqueezeNet 1.1": models.squeezenet1_1(),
        "GoogLeNet": models.googlenet(init_weights=False, aux_logits=False),
        "ResNet-50": models.resnet50(),
        "VGG-16": models.vgg16(),
        "AlexNet": models.alexnet(),
    }


def seconds(model: nn.Module, layout: torch.memory_format, images: torch.Tensor) -> list[float]:
    """Seconds of a forward pass, and of that and the way back to the images."""
    model.to(memory_format=layout)
    given = images.clone(memory_format=layout).requires_grad_()
    _wait(images)
    started = time.perf_counter()
    answers = model(given)
    _wait(images)
    there = time.perf_counter() - started
    answers.sum().backward()
    _wait(images)
    return [there, time.perf_counter() - started]


def _wait(images: torch.Tensor) -> None:
    if images.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print a row of a Markdown table for each classifier."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 224])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--accelerator", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = pick_device(arguments.accelerator)
    cells = [f"{way}, {size} px" for size in arguments.sizes for way in ("forward", "and back")]
    print(f"| classifier | {' | '.join(cells)} |")
    print(f"| --- |{' ---: |' * len(cells)}")
    for name, model in classifiers().items():
        frozen = model.eval().requires_grad_(False).to(device)
        ratios = []
        for size in arguments.sizes:
            images = torch.randn(arguments.batch, 3, size, size, device=device)
            taken: dict[torch.memory_format, list[list[float]]] = {kind: [] for kind in LAYOUTS}
            for number in range(arguments.rounds + 1):
                for layout in LAYOUTS:
                    found = seconds(frozen, layout, images)
                    if number:  # the first one warms up
                        taken[layout].append(found)
            plain, last = (
                [statistics.median(way) for way in zip(*taken[layout], strict=True)]
                for layout in LAYOUTS
            )
            ratios += [f"{one / other:.2f}" for one, other in zip(plain, last, strict=True)]
        print(f"| {name} | {' | '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
