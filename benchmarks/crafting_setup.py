"""What the crafting benchmarks share: a network, images, and the plain loop they compare with."""

import argparse
import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from uap_lightning.attacks.fooling import clean_predictions
from uap_lightning.core.device import pick_device
from uap_lightning.data.cache import decode_once
from uap_lightning.data.crops import CropDataset
from uap_lightning.data.packaged import packaged_photographs
from uap_lightning.data.photographs import Photograph
from uap_lightning.networks import TargetNetwork
from uap_lightning.networks.caffe.googlenet_bvlc import googlenet_bvlc
from uap_lightning.networks.efficientnet_lite import efficientnet_lite
from uap_lightning.networks.weights import load_into, read_weights
from uap_lightning.perturbations.ball import Ball

LINF = Ball(math.inf, 10.0)


class Setup(NamedTuple):
    """A network on its device, and crops with its predictions on them."""

    network: TargetNetwork
    craft: CropDataset
    unseen: CropDataset


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that the benchmarks have in common."""
    parser = argparse.ArgumentParser(description=description)
    networks = ("efficientnet_lite0", "squeezenet", "googlenet")
    parser.add_argument("--network", choices=networks, required=True)
    parser.add_argument("--weights", type=Path, help="of squeezenet (a state dict) and googlenet")
    parser.add_argument("--images", type=Path, help="folder of photographs; packaged ones if not")
    parser.add_argument("--count", type=int, default=64, help="crafting images")
    parser.add_argument("--unseen", type=int, default=64, help="images to measure on")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser


def setup(arguments: argparse.Namespace) -> Setup:
    """The network and the centre crops of the first photographs, in an order drawn by seed 0."""
    torch.set_num_threads(arguments.threads)
    if arguments.network == "squeezenet":
        network = squeezenet(arguments.weights)
    elif arguments.network == "googlenet":
        weights = None if arguments.weights is None else str(arguments.weights)
        network = googlenet_bvlc(weights, cache_dir=str(arguments.cache))
    else:
        network = efficientnet_lite(0)
    network = network.to(pick_device(arguments.accelerator))
    if arguments.images is None:
        split = packaged_photographs()
        photographs = [*split.train, *split.test]
    else:
        files = sorted(
            p for p in arguments.images.iterdir() if p.suffix.lower() in (".jpeg", ".jpg")
        )
        photographs = [Photograph(str(path), None) for path in files]
    order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [photographs[i] for i in order[: arguments.count + arguments.unseen]]
    resize = round(arguments.size * 256 / 224)
    cache = decode_once(chosen, resize, 1, arguments.cache)
    parts = []
    for numbers in (range(arguments.count), range(arguments.count, len(chosen))):
        crops = CropDataset(cache, list(numbers), [-1] * len(numbers), arguments.size, 1, 0)
        crops.prediction = clean_predictions(network, crops)
        parts.append(crops)
    return Setup(network, *parts)


def squeezenet(weights: Path) -> TargetNetwork:
    """SqueezeNet 1.1 with the weights of its Caffe release: BGR minus the mean."""
    model = torchvision.models.squeezenet1_1()
    tensors = {name: tensor.float() for name, tensor in read_weights(weights).items()}
    load_into(model, tensors, "squeezenet", weights)
    return TargetNetwork(model, "squeezenet", [104.0, 117.0, 123.0], [1.0] * 3, bgr=True)


class Subset:
    """The first images of a set."""

    def __init__(self, images: CropDataset, count: int) -> None:
        self.images = images
        self.count = min(count, len(images))
        self.size = images.size

    def __len__(self) -> int:
        return self.count

    def take(self, numbers: Sequence[int]) -> Tensor:
        """The images with these numbers: uint8, N x 3 x size x size, RGB."""
        return self.images.take(numbers)


class Stock(nn.Module):
    """A network as its library ships it: default memory format, weights that take gradients."""

    def __init__(self, network: TargetNetwork) -> None:
        super().__init__()
        self.bgr = network.bgr
        self.mean, self.std = network.mean, network.std
        self.model = copy.deepcopy(network.model).to(memory_format=torch.contiguous_format)
        self.model.requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images with values 0-255."""
        images = images.flip(1) if self.bgr else images
        logits: Tensor = self.model((images - self.mean) / self.std)
        return logits


def plain_loop(
    network: TargetNetwork | Stock,
    images: CropDataset | Subset,
    norm: Ball,
    seed: int,
    passes: int,
) -> Iterator[Tensor]:
    """Universal perturbations as the code of Moosavi-Dezfooli et al. goes about them.

    One image after the other, predicted clean and perturbed anew each time, one backward pass
    for each of ten classes; at the end of a pass all images are predicted twice again.

    Args:
        network: takes pixels.
        images: crafting images.
        norm: the ball.
        seed: of the order of the images.
        passes: over the images.

    Yields:
        the perturbation after each image, 3 x H x W, and once more after each pass.
    """
    rho = torch.zeros(1, 3, images.size, images.size).to(network.mean)
    generator = torch.Generator().manual_seed(seed)

    def say(batch: Tensor) -> Tensor:
        with torch.no_grad():
            predicted: Tensor = network(batch).argmax(1)
        return predicted

    for _ in range(passes):
        for number in torch.randperm(len(images), generator=generator).tolist():
            image = images.take([number]).to(network.mean)
            if int(say(image)) == int(say(image + rho)):
                step, iterations = plain_deepfool(network, image + rho)
                if iterations < 9:
                    rho = norm.project(rho + step)
            yield rho[0].float().cpu()
        for start in range(0, len(images), 100):
            numbers = range(start, min(start + 100, len(images)))
            block = images.take(numbers).to(network.mean)
            _ = say(block) != say(block + rho)
        yield rho[0].float().cpu()


def simple_sga(
    network: Stock, images: CropDataset, predictions: Tensor, norm: Ball, seed: int, steps: int
) -> Tensor:
    """SGA (Liu et al., ICCV 2023) in a simple form, of so many outer steps.

    An outer step draws 40 images, walks from the perturbation over ten of them at a time by signed
    gradients of the clamped cross-entropy, and follows the sign of all these gradients' sum. Its
    authors draw 250 images, from which they take ten a hundred times.
    """
    large, small, step = 40, 10, norm.eps / 10
    rho = torch.zeros(1, 3, images.size, images.size).to(network.mean)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        order = torch.randperm(len(images), generator=generator)[:large]
        inner, total = rho, torch.zeros_like(rho)
        for numbers in torch.split(order, small):
            moved = inner.detach().requires_grad_()
            logits = network(images.take(numbers.tolist()).to(rho) + moved)
            label = predictions[numbers].to(rho.device)
            loss = torch.nn.functional.cross_entropy(logits, label, reduction="none")
            (gradient,) = torch.autograd.grad(loss.clamp_max(9.0).mean(), moved)
            total += gradient
            inner = norm.project(inner + step * gradient.sign())
        rho = norm.project(rho + step * total.sign())
    return rho[0].cpu()


def plain_deepfool(network: nn.Module, image: Tensor) -> tuple[Tensor, int]:
    """DeepFool as its authors' code goes about it: 10 classes, overshoot 0.02, 10 iterations."""
    with torch.no_grad():
        order = network(image)[0].argsort(descending=True)[:10]
    total = torch.zeros_like(image)
    point = image
    iterations, said = 0, int(order[0])
    while said == int(order[0]) and iterations < 10:
        point = point.detach().requires_grad_()
        logits = network(point)[0]
        gradients: list[Tensor] = []
        for k in order:
            point.grad = None
            logits[k].backward(retain_graph=True)
            assert point.grad is not None
            gradients.append(point.grad.clone())
        best, step = math.inf, total
        for k in range(1, len(order)):
            w = gradients[k] - gradients[0]
            length = float(w.double().norm())
            distance = abs(float((logits[order[k]] - logits[order[0]]).detach())) / length
            if distance < best:
                best, step = distance, (distance + 1e-4) * w / length
        total = total + step
        point = image + 1.02 * total
        with torch.no_grad():
            said = int(network(point)[0].argmax())
        iterations += 1
    return 1.02 * total, iterations
