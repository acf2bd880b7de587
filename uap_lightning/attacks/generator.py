"""The generated UAP: a small network, trained for it, turns fixed noise into the perturbation."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from uap_lightning.attacks.descent import draw_batches
from uap_lightning.attacks.universal import Universal
from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import track
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball


def generator(
    network: TargetNetwork,
    images: Images,
    predictions: Tensor,
    norm: Ball,
    seed: int,
    *,
    steps: int = 300,
    batch_size: int = 8,
    learning_rate: float = 2e-3,
    width: int = 16,
) -> Universal:
    """Generative adversarial perturbations, universal ones (GAP, Poursaeed et al., CVPR 2018).

    A residual generator with fixed uniform noise as its input is trained with Adam; its output is
    bounded by tanh, scaled to the radius and projected. The loss is -log of the cross-entropy to
    the clean predictions, the non-targeted loss there.

    Crafted on 128 photographs it fools 0.50 (l_inf) and 0.44 (l_2) of unseen photographs on
    EfficientNet-Lite0, 0.72 and 0.72 on SqueezeNet (docs/benchmarks.md).

    Args:
        network: the target network.
        images: crafting images.
        predictions: the network's own predictions on them, N.
        norm: the ball that rho lives in.
        seed: of the noise, the generator's weights and the batches.
        steps: of Adam.
        batch_size: images a step.
        learning_rate: of Adam.
        width: channels of the generator at full resolution; it has four times as many inside.

    Raises:
        UapError: a setting is out of its range, or the loss is not finite.
    """
    if not 0 < learning_rate < 1 or width < 1:
        raise UapError(
            f"attack has learning_rate {learning_rate} and width {width}: expected a rate above "
            "0 and below 1, and a width of at least 1."
        )
    device = network.mean.device
    size = images.take([0]).shape[1:]
    batches = draw_batches(len(images), steps, batch_size, torch.Generator().manual_seed(seed))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = residual_generator(width).to(device)
        noise = torch.rand(1, *size).to(device)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, betas=(0.5, 0.999))

    def perturbation() -> Tensor:
        bounded = norm.eps * model(noise)
        return norm.project(functional.interpolate(bounded, size[1:])[0])

    for step, numbers in enumerate(track(batches, "Training a generator of a UAP")):
        perturbed = (images.take(numbers).to(device).float() + perturbation()).clamp(0, 255)
        entropy = functional.cross_entropy(network(perturbed), predictions[numbers].to(device))
        if not bool(entropy.isfinite()):
            raise UapError(
                f"the loss of step {step + 1} (images {', '.join(map(str, numbers))}) is not "
                f"finite on the network {network.name}: check its weights and its normalisation."
            )
        optimizer.zero_grad()
        torch.autograd.backward(-entropy.clamp_min(1e-6).log())
        optimizer.step()
    with torch.no_grad():
        return Universal(perturbation().cpu(), steps * batch_size / len(images))


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            *convolution(channels, channels, 3),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """N x C x H x W to the same."""
        added: Tensor = features + self.inside(features)
        return added


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution, the normalisation of each image, and a rectified unit."""
    padding = kernel // 2
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, padding_mode="reflect"),
        nn.InstanceNorm2d(outputs),
        nn.ReLU(),
    ]


def residual_generator(width: int, blocks: int = 3) -> nn.Sequential:
    """The generator of Johnson et al. (ECCV 2016), which the paper uses, with fewer channels.

    Takes N x 3 x H x W, at least 8 pixels a side, and gives values from -1 to 1 of that size,
    rounded up to a multiple of four.
    """
    return nn.Sequential(
        *convolution(3, width, 7),
        *convolution(width, 2 * width, 3, 2),
        *convolution(2 * width, 4 * width, 3, 2),
        *[ResidualBlock(4 * width) for _ in range(blocks)],
        nn.Upsample(scale_factor=2),
        *convolution(4 * width, 2 * width, 3),
        nn.Upsample(scale_factor=2),
        *convolution(2 * width, width, 3),
        nn.Conv2d(width, 3, 7, padding=3, padding_mode="reflect"),
        nn.Tanh(),
    )
