"""What a device makes of training, guarding and crafting, in one command of under ten minutes.

Every line tells images a second (or steps), and where it is arithmetic the share of the device's
own peak, which is measured first by a large product of bf16 matrices. Random weights: nothing is
downloaded, and what is computed costs the same.

    python benchmarks/gpu.py                         # on a GPU, at the paper's size
    python benchmarks/gpu.py --size 64 --seconds 1   # a look at what it does, on any machine
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import googlenet

from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.core.device import pick_device, pick_precision
from uap_lightning.data.crops import TensorImages
from uap_lightning.detectors import DctSvm
from uap_lightning.detectors.dct_svm import linear_svm
from uap_lightning.guard.guard import Guard
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.sampling import PerturbationSampler
from uap_lightning.rectifiers import PRN, ResidualPRN
from uap_lightning.streams.whitening import Whitener
from uap_lightning.training.losses import charbonnier

_TRAINING = 200_000 * 5  # images of the paper's training
_LINF = Ball(float("inf"), 10.0)


@dataclass(frozen=True)
class Bench:
    """Where and how long is measured.

    Attributes:
        device: to compute on.
        size: side of the images.
        batch: images a step.
        seconds: of each line, warm-up apart.
        peak: bf16 operations a second of the device.
    """

    device: torch.device
    size: int
    batch: int
    seconds: float
    peak: float = 0.0

    def rate(self, step: Callable[[], object]) -> float:
        """Steps a second, after three that warm up."""
        for _ in range(3):
            step()
        self.wait()
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < self.seconds or not count:
            step()
            count += 1
            if not count % 8:  # a device may run far ahead of the clock
                self.wait()
        self.wait()
        return count / (time.perf_counter() - started)

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def images(self) -> Tensor:
        """A batch of random images, float, 0-255."""
        chance = torch.Generator().manual_seed(0)
        shape = (self.batch, 3, self.size, self.size)
        return (255 * torch.rand(shape, generator=chance)).round().to(self.device)


def peak_of(device: torch.device, seconds: float) -> float:
    """Operations a second in a product of square bf16 matrices."""
    side = 8_192 if device.type == "cuda" else 2_048
    one = torch.randn(side, side, device=device).bfloat16()
    rate = Bench(device, 0, 0, seconds).rate(lambda: one @ one)
    return 2 * side**3 * rate


def training_step(
    bench: Bench, rectifier: nn.Module, vary: bool, precision: str
) -> tuple[Callable[[], object], float]:
    """A step of training on a batch, perturbed anew, and its operations."""
    images = bench.images()
    rectifier.to(bench.device).train()
    optimizer = torch.optim.Adam(rectifier.parameters(), 1e-3)
    chance = torch.Generator().manual_seed(0)
    rhos = 10 * torch.randn(250, 3, bench.size, bench.size, generator=chance).sign()
    sampler = PerturbationSampler(rhos.to(bench.device), 0.5, vary, _LINF, 0)
    steps = iter(range(10**9))
    half = precision == "bf16" or (
        precision == "auto" and pick_precision("auto", bench.device) == "bf16-mixed"
    )

    def step() -> None:
        perturbed, _ = sampler(images, next(steps))
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=half):
            loss = charbonnier(rectifier(perturbed), images)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(rectifier.parameters(), 1.0)
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        charbonnier(rectifier(images), images).backward()  # type: ignore[no-untyped-call]
    return step, float(counter.get_total_flops())


def trainings(bench: Bench) -> Iterator[str]:
    """The rectifiers in training."""
    for name, rectifier, vary, precision in (
        ("paper's PRN, bf16", PRN(skip=True, output_scale=8.0), False, "bf16"),
        ("paper's PRN, float32", PRN(skip=True, output_scale=8.0), False, "32"),
        ("prn_residual", ResidualPRN(32, 2), False, "auto"),
        ("prn_residual, vary", ResidualPRN(32, 2), True, "auto"),
        ("prn_general, vary", ResidualPRN(64, 4), True, "auto"),
    ):
        step, operations = training_step(bench, rectifier, vary, precision)
        rate = bench.rate(step)
        minutes = _TRAINING / (rate * bench.batch) / 60
        yield (
            f"train {name}: {rate * bench.batch:,.0f} images/s, {rate:.2f} steps/s, "
            f"{100 * rate * operations / bench.peak:.0f} % of the peak; "
            f"200,000 crops five times: {minutes:.1f} min"
        )


def sampling(bench: Bench) -> Iterator[str]:
    """What perturbing costs by itself."""
    images = bench.images()
    chance = torch.Generator().manual_seed(0)
    rhos = (10 * torch.randn(250, *images.shape[1:], generator=chance).sign()).to(bench.device)
    for vary in (False, True):
        sampler = PerturbationSampler(rhos, 0.5, vary, _LINF, 0)
        rate = bench.rate(partial(sampler, images, 1))
        yield f"perturb a batch of {bench.batch}, vary={str(vary).lower()}: {1_000 / rate:.2f} ms"


def guarding(bench: Bench, network: TargetNetwork) -> Iterator[str]:
    """The guard against the bare network, and what a guard with memory adds."""
    images = bench.images()
    guard = Guard(network, ResidualPRN(32, 2), DctSvm(bench.size)).to(bench.device)
    guard.requires_grad_(False)
    chance = torch.Generator().manual_seed(1)
    photographs = torch.randint(0, 256, (64, 3, bench.size, bench.size), generator=chance)
    whitener = Whitener(bench.size).fit(photographs.to(torch.uint8)).to(bench.device)
    with torch.no_grad():
        bare = bench.rate(lambda: network(images))
        guarded = bench.rate(lambda: guard(images))
        whitened = bench.rate(lambda: whitener.describe(images))
    yield f"GoogLeNet alone: {bare * bench.batch:,.0f} images/s"
    yield (
        f"GoogLeNet behind prn_residual and DCT-SVM: {guarded * bench.batch:,.0f} images/s, "
        f"{bare / guarded:.2f} times the time"
    )
    yield f"whitening and describing: {100 * bare / whitened:.1f} % of GoogLeNet's time"


def crafting(bench: Bench, network: TargetNetwork, steps: int) -> Iterator[str]:
    """The gradient engine."""
    images = bench.images()
    with torch.no_grad():
        answers = network(images).argmax(1)
    given = TensorImages(images.to(torch.uint8).cpu())

    def craft(count: int) -> None:
        cosine_uap(network, given, answers.cpu(), _LINF, 0, steps=count, batch_size=bench.batch)

    craft(2)
    bench.wait()
    started = time.perf_counter()
    craft(steps)
    bench.wait()
    seconds = time.perf_counter() - started
    yield (
        f"craft by gradients: {steps * bench.batch / seconds:,.0f} gradients/s "
        f"({steps} steps of {bench.batch})"
    )


def detecting(bench: Bench) -> Iterator[str]:
    """A part of the SVM's fit."""
    chance = torch.Generator().manual_seed(0)
    features = torch.randn(1_000, bench.size**2, generator=chance).to(bench.device)
    kinds = (torch.rand(1_000, generator=chance) < 0.5).to(bench.device)
    rate = bench.rate(lambda: linear_svm(features, kinds, 1e-2))
    yield f"fit the SVM on a part of 1,000 images: {1 / rate:.2f} s; 200,000: {200 / rate:.0f} s"


def main() -> None:
    """Print every line as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=50, help="of crafting")
    parser.add_argument("--accelerator", default="auto")
    arguments = parser.parse_args()
    device = pick_device(arguments.accelerator)
    torch.set_float32_matmul_precision("high")
    named = torch.cuda.get_device_name() if device.type == "cuda" else f"{os.cpu_count()} cores"
    peak = peak_of(device, min(2.0, arguments.seconds))
    bench = Bench(device, arguments.size, arguments.batch, arguments.seconds, peak)
    print(f"{named}, PyTorch {torch.__version__}: bf16 peak {peak / 1e12:.1f} Tflop/s", flush=True)
    model = googlenet(weights=None, init_weights=False, aux_logits=False).eval()
    network = TargetNetwork(model, "googlenet", [123.7, 116.3, 103.5], [58.4, 57.1, 57.4])
    network.to(device).requires_grad_(False)
    for lines in (
        trainings(bench),
        sampling(bench),
        guarding(bench, network),
        crafting(bench, network, arguments.steps),
        detecting(bench),
    ):
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
